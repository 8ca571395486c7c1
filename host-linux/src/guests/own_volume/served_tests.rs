//! An own volume behind an NBD server.

use super::super::contents::Contents;
use super::super::table::What;
use super::super::table::tests::snapshot;
use super::*;
use crate::failure::Exit;
use crate::nbd::file::FileExport;
use crate::nbd::limits::Limits;
use crate::nbd::server::Server;
use std::io::{Read as _, Write as _};
use std::sync::Arc;

/// What is written by a session is read by everybody; who changes it is alone, and who reads it is not
/// disturbed.
#[test]
fn a_volume_is_changed_by_one_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, file) = (directory.path().join("nbd.sock"), directory.path().join("content"));
    File::create(&file).unwrap().set_len(64 << 20).unwrap();
    let export = Arc::new(FileExport::open(&file, false).unwrap());
    let mut server = Server::start(Limits::default()).unwrap();
    server.listen_unix(&socket).unwrap();
    server.publish("web1.guest", "", Arc::clone(&export) as Arc<_>).unwrap();
    server.publish_for_sessions("~web1.guest", export).unwrap();
    let volume = Name::new("web1.guest").unwrap();
    let connect = |access| Served::connect(&socket, &volume, access);

    let contents = Contents::open_new(connect(Access::Change).unwrap()).unwrap();
    for access in [Access::Change, Access::Read] {
        let refused = connect(access).unwrap_err();
        assert_eq!((refused.exit, refused.what.contains("is at work")), (Exit::Refused, true), "{refused:?}");
    }
    let state = [[1; 4096], [2; 4096]].concat().repeat(1200);
    let mut change = contents.change();
    change.put(What::Description, 1, 5, &mut &b"about"[..]).unwrap();
    let mut out = change.stream().unwrap();
    out.write_all(&state).unwrap();
    let filled = out.finish().unwrap();
    change.keep(snapshot("last"), 2, filled).unwrap();
    assert!(Contents::open(connect(Access::Look).unwrap()).is_err(), "it is not in force");
    drop(change.commit().unwrap());

    let readers = [Access::Read, Access::Read, Access::Look].map(|access| connect(access).unwrap());
    assert_eq!(connect(Access::Change).unwrap_err().exit, Exit::Refused);
    for reader in readers {
        let contents = Contents::open(reader).unwrap();
        let mut read = Vec::new();
        contents.read(&snapshot("last")).unwrap().read_to_end(&mut read).unwrap();
        assert!(read == state);
    }
    let mut change = Contents::open(connect(Access::Change).unwrap()).unwrap().change();
    assert!(change.remove(&snapshot("last")));
    let contents = change.commit().unwrap();
    assert_eq!(contents.table().entries().len(), 1);
    let mut about = String::new();
    contents.read(&What::Description).unwrap().read_to_string(&mut about).unwrap();
    assert_eq!(about, "about");
}

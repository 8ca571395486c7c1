//! A guest's console on a Unix socket, for its owner only: who connects reads what was said last and what is
//! said from then on, and types. Several may at once.

use super::api::listen;
use super::console::Console;
use super::keys::Keys;
use crate::failure::Failure;
use std::io::Read as _;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Who may be attached at once; others are let go.
const ATTACHED_MAX: usize = 8;
/// Somebody who does not read for so long is let go.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that are typed at once.
const TYPED_MAX: usize = 256;
const STACK: usize = 64 << 10;

/// A socket that is served; it is gone when this is dropped.
#[derive(Debug)]
pub struct Attach(PathBuf);

impl Drop for Attach {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Attach {
    /// Serves `console` at the socket `path`; what is typed there are `keys`.
    ///
    /// # Errors
    ///
    /// The path cannot be used, or another guest serves it.
    pub fn serve(path: &Path, console: Console, keys: Keys) -> Result<Self, Failure> {
        let listener = listen(path)?;
        let thread = std::thread::Builder::new().name("attach".into()).stack_size(STACK);
        thread
            .spawn(move || accept(&listener, &console, &keys))
            .map_err(|error| Failure::io("serve", path, &error))?;
        Ok(Self(path.to_owned()))
    }
}

fn accept(listener: &UnixListener, console: &Console, keys: &Keys) {
    let slots = Arc::new(());
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // No file descriptors, most likely: do not spin.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        // This thread has one itself.
        if ATTACHED_MAX < Arc::strong_count(&slots) {
            continue;
        }
        let (console, keys, slot) = (console.clone(), keys.clone(), Arc::clone(&slots));
        let work = move || {
            attach(stream, &console, &keys);
            drop(slot);
        };
        // Without a thread the connection closes, which is an answer too.
        let _ = std::thread::Builder::new().name("attached".into()).stack_size(STACK).spawn(work);
    }
}

/// Serves one until he leaves.
fn attach(mut stream: UnixStream, console: &Console, keys: &Keys) {
    let copy = stream.set_write_timeout(Some(PATIENCE)).and_then(|()| stream.try_clone());
    let Ok(reader) = copy.and_then(|out| console.copy_to(out)) else { return };
    let mut bytes = [0; TYPED_MAX];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        if !keys.put(bytes.get(..count).unwrap_or_default()) {
            break;
        }
    }
    drop(reader);
    // Its thread may be on its way to somebody who does not read.
    let _ = stream.shutdown(Shutdown::Both);
}

//! These bytes are the protocol's. If a test fails here, we are wrong, not the bytes.

use super::context::Context;
use super::number::{GREETING, OPTION_MAGIC, OPTION_REPLY_MAGIC, answer, chunk, info, option};
use super::option::{Ask, Header as OptionHeader, NotAnOption, OPTION_MAX, Refused, Wanted};
use super::option_reply as say;
use super::reply::{self, Place};
use super::request::{Header, NotARequest};
use crate::nbd::export::{Errno, Geometry};
use proptest::prelude::*;

#[test]
fn the_magic_numbers_are_what_the_specification_says_in_letters() {
    assert_eq!(&GREETING.to_be_bytes(), b"NBDMAGIC");
    assert_eq!(&OPTION_MAGIC.to_be_bytes(), b"IHAVEOPT");
    assert_eq!(OPTION_REPLY_MAGIC, 0x3_e889_0455_65a9);
}

#[test]
fn the_server_says_these_bytes() {
    let geometry = Geometry::new(0x0123_4000, 512, 4096).unwrap().multi_conn(true);
    let said = |say: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        say(&mut out);
        out
    };
    assert_eq!(said(&|out| say::greet(out)), b"NBDMAGICIHAVEOPT\0\x03");
    let head = |option: u8, kind: [u8; 4], length: u8| {
        [&OPTION_REPLY_MAGIC.to_be_bytes()[..], &[0, 0, 0, option], &kind, &[0, 0, 0, length]].concat()
    };
    let expect = |head: Vec<u8>, data: &[u8]| [head, data.to_vec()].concat();
    assert_eq!(said(&|out| say::reply(out, 3, answer::ACK, &[])), head(3, [0, 0, 0, 1], 0));
    let refused = said(&|out| say::reply(out, 77, answer::UNSUPPORTED, &[b"no"]));
    assert_eq!(refused, expect(head(77, [0x80, 0, 0, 1], 2), b"no"));
    let listed = said(&|out| say::server(out, option::LIST, "vol", "text"));
    assert_eq!(listed, expect(head(3, [0, 0, 0, 2], 11), b"\0\0\0\x03voltext"));
    let export = said(&|out| say::info_export(out, option::GO, &geometry));
    assert_eq!(export, expect(head(7, [0, 0, 0, 3], 12), b"\0\0\0\0\0\0\x01\x23\x40\0\x0d\xed"));
    let blocks = said(&|out| say::info_block_size(out, option::INFO, &geometry));
    assert_eq!(blocks, expect(head(6, [0, 0, 0, 3], 14), b"\0\x03\0\0\x02\0\0\0\x10\0\x02\0\0\0"));
    let name = said(&|out| say::info_text(out, option::GO, info::NAME, "vol"));
    assert_eq!(name, expect(head(7, [0, 0, 0, 3], 5), b"\0\x01vol"));
    let context = said(&|out| say::context(out, option::SET_META_CONTEXT, Context::Allocation, 1));
    assert_eq!(context, expect(head(10, [0, 0, 0, 4], 19), b"\0\0\0\x01base:allocation"));
    let context = said(&|out| say::context(out, option::LIST_META_CONTEXT, Context::Dirty, 0));
    assert_eq!(context, expect(head(9, [0, 0, 0, 4], 20), b"\0\0\0\0x-bulkhead:dirty"));
    let old = said(&|out| say::old_style(out, &geometry.read_only(true), true));
    assert_eq!(old, [&b"\0\0\0\0\x01\x23\x40\0\x05\x8f"[..], &[0; 124]].concat());
}

#[test]
fn replies_are_these_bytes() {
    let place = Place { cookie: 0x0102_0304_0506_0708, flags: chunk::DONE };
    assert_eq!(
        &reply::simple(place.cookie, None)[..],
        b"\x67\x44\x66\x98\0\0\0\0\x01\x02\x03\x04\x05\x06\x07\x08"
    );
    let failed = reply::simple(place.cookie, Some(Errno::NoSpace));
    assert_eq!(&failed[4..8], [0, 0, 0, 28]);
    let chunk_head = |kind: [u8; 2], length: u8| {
        [&b"\x66\x8e\x33\xef\0\x01"[..], &kind, b"\x01\x02\x03\x04\x05\x06\x07\x08", &[0, 0, 0, length]]
            .concat()
    };
    let expect = |head: Vec<u8>, data: &[u8]| [head, data.to_vec()].concat();
    assert_eq!(reply::chunk(place, chunk::NONE, 0)[..], chunk_head([0, 0], 0));
    assert_eq!(reply::data(place, 512, 16)[..], expect(chunk_head([0, 1], 24), b"\0\0\0\0\0\0\x02\0"));
    assert_eq!(
        reply::hole(place, 512, 9)[..],
        expect(chunk_head([0, 2], 12), b"\0\0\0\0\0\0\x02\0\0\0\0\x09")
    );
    let error = reply::error(place, Errno::Shutdown, 3);
    assert_eq!(error[..], expect(chunk_head([0x80, 1], 9), b"\0\0\0\x6c\0\x03"));
}

#[test]
fn the_client_says_these_bytes() {
    let go = b"\0\0\0\x03vol\0\x03\0\x03\0\x01\0\x02";
    let wanted = Wanted { name: "vol", canonical: true, description: true };
    assert_eq!(Ask::parse(option::GO, go), Ok(Ask::Go(wanted)));
    assert_eq!(Ask::parse(option::INFO, b"\0\0\0\0\0\0").unwrap(), {
        Ask::Info(Wanted { name: "", canonical: false, description: false })
    });
    let contexts = b"\0\0\0\x01v\0\0\0\x02\0\0\0\x05base:\0\0\0\x01x";
    let Ok(Ask::SetContexts(contexts)) = Ask::parse(option::SET_META_CONTEXT, contexts) else { panic!() };
    assert_eq!((contexts.name, contexts.count), ("v", 2));
    assert_eq!(contexts.queries().collect::<Vec<_>>(), ["base:", "x"]);
    let header = OptionHeader::parse(b"IHAVEOPT\0\0\0\x07\0\0\x01\0");
    assert_eq!(header, Ok(OptionHeader { option: 7, length: 256 }));
    assert_eq!(OptionHeader::parse(b"IHAVEOPt\0\0\0\x07\0\0\x01\0"), Err(NotAnOption));
    let read = b"\x25\x60\x95\x13\0\x04\0\0\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\0\0\0\x10\0\0\0\x02\0";
    let cookie = 0x0102_0304_0506_0708;
    assert_eq!(Header::parse(read), Ok(Header { flags: 4, command: 0, cookie, offset: 4096, length: 512 }));
    assert_eq!(Header::parse(&[0; 28]), Err(NotARequest));
}

#[test]
fn what_is_malformed_is_refused() {
    let long = [&4097_u32.to_be_bytes()[..], &[b'a'; 4097], b"\0\0"].concat();
    for data in [
        &b""[..],
        b"\0\0\0\x04vol",
        b"\0\0\0\x03vol",
        b"\0\0\0\x03vol\0\x01",
        b"\0\0\0\x03vol\0\0\0",
        b"\0\0\0\x03v\xffl\0\0",
        b"\0\0\0\x03v\0l\0\0",
        b"\xff\xff\xff\xffvol\0\0",
        &long,
    ] {
        assert!(matches!(Ask::parse(option::GO, data), Err(Refused::Malformed(_))), "{data:?}");
    }
    // So many queries cannot be there: refused without looking for them.
    let many = b"\0\0\0\x01v\xff\xff\xff\xff";
    assert!(matches!(Ask::parse(option::LIST_META_CONTEXT, many), Err(Refused::Malformed(_))));
    assert_eq!(Ask::parse(4, b""), Err(Refused::Unknown));
    assert_eq!(Ask::parse(11, b""), Err(Refused::Unknown), "extended headers are not served");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_option_panics(option in 0_u32..16, data in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(Ask::ListContexts(contexts) | Ask::SetContexts(contexts)) = Ask::parse(option, &data) {
            prop_assert_eq!(contexts.queries().count(), contexts.count as usize);
        }
    }

    #[test]
    fn options_are_read_as_they_were_written(
        name in "[a-zé ]{0,40}",
        queries in prop::collection::vec("[a-z:]{0,30}", 0..20),
        infos in prop::collection::vec(0_u16..6, 0..9),
    ) {
        let number = |count: usize| u32::try_from(count).unwrap().to_be_bytes();
        let text = |text: &str| [&number(text.len())[..], text.as_bytes()].concat();
        let count = number(queries.len()).to_vec();
        let queried = queries.iter().map(|one| text(one));
        let data: Vec<u8> = [text(&name), count].into_iter().chain(queried).flatten().collect();
        prop_assert!(data.len() <= OPTION_MAX);
        let Ok(Ask::ListContexts(contexts)) = Ask::parse(option::LIST_META_CONTEXT, &data) else {
            return Err(TestCaseError::fail("refused"));
        };
        prop_assert_eq!(contexts.name, &name);
        prop_assert_eq!(contexts.queries().collect::<Vec<_>>(), queries);
        let count = u16::try_from(infos.len()).unwrap().to_be_bytes();
        let data: Vec<u8> = [text(&name), count.to_vec()].into_iter()
            .chain(infos.iter().map(|one| one.to_be_bytes().to_vec())).flatten().collect();
        let wanted = Wanted { name: &name, canonical: infos.contains(&1), description: infos.contains(&2) };
        prop_assert_eq!(Ask::parse(option::GO, &data), Ok(Ask::Go(wanted)));
    }

    #[test]
    fn no_request_panics(bytes in prop::array::uniform28(any::<u8>())) {
        let magic = bytes[..4] == [0x25, 0x60, 0x95, 0x13];
        prop_assert_eq!(Header::parse(&bytes).is_ok(), magic);
    }
}

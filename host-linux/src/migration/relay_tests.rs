//! I11: what a guest's process says to its agent is bounded, and understood or not.

use super::*;

#[test]
fn a_line_is_one_line_and_no_byte_more() {
    let mut from = &b"one\ntwo"[..];
    assert_eq!((line(&mut from).unwrap(), from), (b"one".to_vec(), &b"two"[..]));
    assert!(line(&mut from).is_err(), "it has no end");
    let long = [vec![b'x'; LINE_MAX], b"\n".to_vec()].concat();
    assert_eq!(line(&mut &*long).unwrap().len(), LINE_MAX);
    assert!(line(&mut &*[b"x", &*long].concat()).is_err());
    for said in ["", "x", "{}", "{\"node\":1}", "{\"node\":\"b1\",\"more\":1}"] {
        assert!(serde_json::from_str::<Wish>(said).is_err(), "{said}");
    }
}

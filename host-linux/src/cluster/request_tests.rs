//! BLACKBOX 3: programs write these words.

use super::*;
use crate::failover::wanted;

fn has_one_form((text, request): (&str, Request)) {
    assert_eq!(serde_json::from_str::<Request>(text).unwrap(), request);
    assert_eq!(serde_json::to_string(&request).unwrap(), text);
}

#[test]
fn requests_of_guests_are_one_form() {
    let wanted = Wanted {
        running: true,
        policy: wanted::Policy::Stay,
        priority: 9,
        home: None,
        apart: None,
        needs: None,
    };
    let of_wanted = r#"{"running":true,"policy":"stay","priority":9}"#;
    let wants = format!(r#"{{"request":"guest-wanted","name":"w.guest","wanted":{of_wanted}}}"#);
    has_one_form((&wants, Request::GuestWanted { name: "w.guest".into(), wanted }));
    let all = [
        (r#"{"request":"guest-lease"}"#, Request::GuestLease { lease: None }),
        (r#"{"request":"guest-lease","lease":"x"}"#, Request::GuestLease { lease: Some("x".into()) }),
        (r#"{"request":"guest-return","lease":"x"}"#, Request::GuestReturn { lease: "x".into() }),
        (
            r#"{"request":"guest-heartbeat","guest":"web1","lostMs":7,"follows":"reset"}"#,
            Request::GuestHeartbeat { guest: "web1".into(), lost_ms: Some(7), follows: Lost::Reset },
        ),
        (
            r#"{"request":"guest-road","node":"b1","leased":true}"#,
            Request::GuestRoad { node: "b1".into(), leased: true },
        ),
        (
            r#"{"request":"guest-keys","hello":[1],"welcome":[2]}"#,
            Request::GuestKeys { hello: vec![1], welcome: vec![2] },
        ),
    ];
    all.into_iter().for_each(has_one_form);
}

#[test]
fn requests_are_one_form_and_unknown_ones_are_refused() {
    let all = [
        (r#"{"request":"status"}"#, Request::Status),
        (r#"{"request":"events","after":7,"follow":true}"#, Request::Events { after: 7, follow: true }),
        (r#"{"request":"controller-move","node":2}"#, Request::ControllerMove { node: 2 }),
        (r#"{"request":"node-leave","node":3}"#, Request::NodeLeave { node: 3, word: None }),
        (
            r#"{"request":"node-leave","node":3,"override":"0f"}"#,
            Request::NodeLeave { node: 3, word: Some("0f".into()) },
        ),
        (r#"{"request":"fence-history"}"#, Request::FenceHistory),
        (r#"{"request":"volume-list"}"#, Request::VolumeList),
        (
            r#"{"request":"volume-create","name":"vm1","blocks":256}"#,
            Request::VolumeCreate { name: "vm1".into(), blocks: 256 },
        ),
        (
            r#"{"request":"volume-seal","name":"vm1","seal":"0f"}"#,
            Request::VolumeSeal { name: "vm1".into(), seal: "0f".into() },
        ),
        (
            r#"{"request":"volume-mode","mode":"back"}"#,
            Request::VolumeMode { volume: None, mode: Some(Policy::Back) },
        ),
        (
            r#"{"request":"volume-mode","volume":"vm1","mode":null}"#,
            Request::VolumeMode { volume: Some("vm1".into()), mode: None },
        ),
        (
            r#"{"request":"volume-cache","algorithm":"clock"}"#,
            Request::VolumeCache { volume: None, algorithm: Some(Algorithm::Clock) },
        ),
        (
            r#"{"request":"volume-cache","volume":"vm1","algorithm":"none"}"#,
            Request::VolumeCache { volume: Some("vm1".into()), algorithm: Some(Algorithm::Off) },
        ),
        (r#"{"request":"volume-limit","bytes":4096}"#, Request::VolumeLimit { bytes: Some(4096) }),
        (
            r#"{"request":"volume-secondary-remove","node":2,"yes":true}"#,
            Request::VolumeSecondaryRemove { node: 2, yes: true },
        ),
        (
            r#"{"request":"volume-recover","evenPartFilled":true}"#,
            Request::VolumeRecover { even_part_filled: true },
        ),
        (r#"{"request":"force-quorum","lost":[1,3]}"#, Request::ForceQuorum { lost: vec![1, 3] }),
        (r#"{"request":"force-show"}"#, Request::ForceShow),
        (r#"{"request":"volume-scrub"}"#, Request::VolumeScrub),
        (
            r#"{"request":"fence-power","node":2,"want":"off","reason":"smoke"}"#,
            Request::FencePower {
                node: 2,
                want: PowerWord::Off,
                reason: Some("smoke".into()),
                operator: false,
                word: None,
            },
        ),
    ];
    all.into_iter().for_each(has_one_form);
    for text in ["", "{}", "[]", r#"{"request":"reboot"}"#, r#"{"request":"node-join","node":70000}"#] {
        assert!(serde_json::from_str::<Request>(text).is_err(), "{text}");
    }
}

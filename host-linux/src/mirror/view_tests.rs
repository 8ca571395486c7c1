//! BLACKBOX 3: how a group is, for programs and for people.

use super::*;

/// BLACKBOX 3: programs read these names.
#[test]
fn the_names_of_the_fields_never_change() {
    let view = View {
        mode: Mode::Leading,
        state: State::Resyncing,
        policy: Policy::Back,
        voters: vec![1, 3],
        uncounted: vec![3],
        cache: CacheView { algorithm: Algorithm::Off, ..CacheView::default() },
        holders: vec![HolderView { node: 1, in_sync: true, ..HolderView::default() }],
        placeholder: PlaceholderView {
            store_bytes: 9,
            store_used_bytes: Some(2),
            store_free_bytes: Some(4),
            ..PlaceholderView::default()
        },
        scrub: ScrubView {
            damaged_blocks: 1,
            damaged: vec![BlockView { volume: 1, block: 7 }],
            ..ScrubView::default()
        },
        volumes: vec![VolumeView {
            number: 1,
            name: "vm1".into(),
            wanted: Some(Policy::Through),
            backing: in_a_file(),
            ..VolumeView::default()
        }],
        ..View::default()
    };
    let expected = serde_json::json!({
        "mode": "leading", "state": "resyncing", "epoch": 0, "leads": false, "primary": null,
        "waits": null, "wanted": "through", "policy": "back", "voters": [1, 3], "uncounted": [3],
        "holders": [{
            "node": 1, "inSync": true, "connected": false, "encrypted": null, "has": null, "lag": null,
            "removed": false, "fill": null
        }],
        "log": { "bytes": 0, "freeBytes": 0, "newest": 0, "durable": 0, "commit": 0, "applied": 0 },
        "dirtyBytes": 0, "partFilled": false,
        "full": null, "scrub": {
            "passes": 0, "bytes": 0, "checkedBytes": 0, "hurried": false, "mendedBlocks": 0,
            "damagedBlocks": 1, "damaged": [{ "volume": 1, "block": 7 }]
        },
        "atRiskBytes": null, "atRiskMax": null, "heldWrites": 0,
        "memory": { "bytes": 0, "freeBytes": 0 },
        "cache": { "bytes": 0, "usedBytes": 0, "algorithm": "none", "hits": 0, "misses": 0 },
        "placeholder": {
            "memoryBytes": 0, "logBytes": 0, "storeBytes": 9, "storeUsedBytes": 2, "storeFreeBytes": 4
        },
        "writes": { "p50Us": null, "p99Us": null }, "reads": { "p50Us": null, "p99Us": null },
        "volumes": [{
            "number": 1, "name": "vm1", "uuid": "", "bytes": 0, "seal": null, "guest": null,
            "wanted": "through", "policy": "through",
            "cached": false, "atRiskBytes": null, "backing": "file"
        }],
        "lastError": null,
    });
    assert_eq!(view.placeholder.lacking(), 3);
    assert_eq!(serde_json::to_value(&view).unwrap(), expected);
    assert_eq!(serde_json::from_value::<View>(expected).unwrap(), view);
}

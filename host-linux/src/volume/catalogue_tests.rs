//! S3-07, F4: the catalogue says which volumes there are, whatever it is told; numbers are kept apart.

use proptest::prelude::*;

use super::*;
use crate::failure::Exit;

fn uuid(seed: u8) -> Uuid {
    Uuid([seed; 16])
}

/// A catalogue in which each record was written and taken.
fn told(records: &[Record]) -> Catalogue {
    let mut catalogue = Catalogue::new();
    for record in records {
        catalogue.take(record.volume.0.into(), &record.encode()).unwrap();
    }
    catalogue
}

fn write(catalogue: &mut Catalogue, record: &Record) -> Change {
    catalogue.take(record.volume.0.into(), &record.encode()).unwrap()
}

#[test]
fn a_volume_is_made_resized_and_deleted() {
    let mut all = Catalogue::new();
    let made = all.make("vm1", 10, uuid(1)).unwrap();
    assert_eq!((made.volume, made.change), (Volume(1), 1));
    assert_eq!(write(&mut all, &made), Change::Made(made.clone()));
    assert_eq!(write(&mut all, &made), Change::Same, "told twice");
    assert_eq!(all.by_name("vm1"), Some(&made));

    let larger = all.resize(Volume(1), 20).unwrap();
    assert_eq!(write(&mut all, &larger), Change::Resized { record: larger.clone(), was: 10 });
    // A log that is repeated tells the old size again.
    assert_eq!(write(&mut all, &made), Change::Resized { record: made, was: 20 });
    write(&mut all, &larger);

    let gone = all.delete(Volume(1)).unwrap();
    assert_eq!(write(&mut all, &gone), Change::Deleted(larger));
    assert_eq!(write(&mut all, &gone), Change::Same);
    assert_eq!((all.get(Volume(1)), all.by_name("vm1"), all.list().count()), (None, None, 0));
    assert_eq!(all.make("vm1", 1, uuid(2)).unwrap().volume, Volume(2), "its number is kept apart");
}

/// S0-06: what is wanted of a volume goes before what is wanted of all; the group is as quick as the quickest
/// wants it, and whoever wants more waits besides.
#[test]
fn a_volume_has_the_policy_of_all_until_it_has_its_own() {
    let mut all = Catalogue::new();
    for name in ["vm1", "vm2"] {
        let made = all.make(name, 10, uuid(1)).unwrap();
        write(&mut all, &made);
    }
    let (one, two) = (Volume(1), Volume(2));
    let policies = |all: &Catalogue| (all.policy(one), all.policy(two), all.least_policy());
    assert_eq!(policies(&all), (Policy::Back, Policy::Back, Policy::Back));
    let own = all.want(one, Some(Policy::Through)).unwrap();
    assert_eq!(write(&mut all, &own), Change::Same);
    assert_eq!(policies(&all), (Policy::Through, Policy::Back, Policy::Back));
    let group = all.want_of_all(Policy::Through);
    assert_eq!(group.change, own.change + 1);
    all.take(0, &group.encode()).unwrap();
    assert_eq!(policies(&all), (Policy::Through, Policy::Through, Policy::Through));
    let own = all.want(one, Some(Policy::Back)).unwrap();
    write(&mut all, &own);
    assert_eq!(policies(&all), (Policy::Back, Policy::Through, Policy::Back));
    let none = all.want(one, None).unwrap();
    write(&mut all, &none);
    assert_eq!(policies(&all), (Policy::Through, Policy::Through, Policy::Through));
    assert_eq!(all.want(Volume(9), None).unwrap_err().exit, Exit::Usage);
}

#[test]
fn what_cannot_be_is_refused_with_what_to_do() {
    let mut all = Catalogue::new();
    let made = all.make("vm1", 10, uuid(1)).unwrap();
    write(&mut all, &made);
    let refusals = [
        (all.make("vm1", 1, uuid(2)), Exit::Refused),
        (all.make("-x", 1, uuid(2)), Exit::Usage),
        (all.make("vm2", 0, uuid(2)), Exit::Usage),
        (all.make("vm2", BLOCKS_MAX + 1, uuid(2)), Exit::Usage),
        (all.resize(Volume(1), 9), Exit::Refused),
        (all.resize(Volume(2), 9), Exit::Usage),
        (all.delete(Volume(2)), Exit::Usage),
    ];
    for (refused, exit) in refusals {
        let failure = refused.unwrap_err();
        assert_eq!(failure.exit, exit, "{failure:?}");
        assert!(!failure.next.is_empty() && failure.left == "Nothing was changed.", "{failure:?}");
    }
}

/// A store must drop what a number had before: it is told so whatever way the catalogue came to it.
#[test]
fn another_volume_under_a_number_is_a_new_one() {
    let mut all = Catalogue::new();
    let made = all.make("vm1", 10, uuid(1)).unwrap();
    write(&mut all, &made);
    let other = Record { uuid: uuid(2), change: 7, ..made.clone() };
    assert_eq!(write(&mut all, &other), Change::Made(other.clone()));
    assert_eq!(all.take(1, &[0; BLOCK_LEN]).unwrap(), Change::Deleted(other));
    assert_eq!(write(&mut all, &made), Change::Made(made));
}

#[test]
fn when_all_numbers_were_used_the_one_deleted_first_is_used_again() {
    let name = |number: u16| Name::new(&format!("v{number}")).unwrap();
    let record = |number: u16, state| Record {
        volume: Volume(number),
        state,
        name: name(number),
        uuid: uuid(1),
        blocks: 1,
        // 40 was deleted before 7.
        change: if number == 40 { 5000 } else { 5000 + u64::from(number == 7) + u64::from(number) },
        policy: None,
        is_cached: true,
        seal: None,
        guest: None,
    };
    let is_gone = |number| if matches!(number, 7 | 40) { State::Deleted } else { State::Present };
    let all: Vec<_> = (1..=NUMBER_MAX).map(|number| record(number, is_gone(number))).collect();
    let mut all = told(&all);
    assert_eq!(all.free_number(), Some(Volume(40)));
    let next = all.make("again", 1, uuid(2)).unwrap();
    assert_eq!((next.volume, next.change), (Volume(40), 5000 + u64::from(NUMBER_MAX) + 1));
    write(&mut all, &next);
    assert_eq!(all.free_number(), Some(Volume(7)));
    let last = all.make("last", 1, uuid(3)).unwrap();
    write(&mut all, &last);
    assert_eq!(all.free_number(), None);
    assert_eq!(all.make("none", 1, uuid(4)).unwrap_err().exit, Exit::Refused);
}

/// S3-15, S3-19: a guest that is counted stays what it was told to be meanwhile; it is counted once.
#[test]
fn counting_a_guest_changes_nothing_else_of_it() {
    use bulkhead_core::volume::guest::Failover;
    let mut all = Catalogue::new();
    let made = all.make("web1.guest", 10, uuid(1)).unwrap();
    write(&mut all, &made);
    let needs = |mib| Needs { memory: mib, processors: std::num::NonZeroU8::MIN };
    let [one, two] = [1, 2].map(|mib| needs(std::num::NonZeroU32::new(mib).unwrap()));
    assert_eq!(all.count(Volume(1), one).unwrap_err().exit, Exit::Refused, "nothing is wanted of it");
    let off = Guest {
        is_wanted: false,
        failover: Failover::Resume,
        priority: 9,
        home: None,
        apart: None,
        needs: None,
    };
    let wanted = all.guest(Volume(1), off).unwrap();
    write(&mut all, &wanted);
    let counted = all.count(Volume(1), one).unwrap();
    write(&mut all, &counted);
    assert_eq!(all.get(Volume(1)).unwrap().guest, Some(Guest { needs: Some(one), ..off }));
    assert!(all.count(Volume(1), two).is_err() && all.count(Volume(2), two).is_err());
}

#[test]
fn blocks_that_are_no_records_change_nothing() {
    let mut all = Catalogue::new();
    let made = all.make("vm1", 10, uuid(1)).unwrap();
    write(&mut all, &made);
    let before = all.clone();
    let block = made.encode();
    for (number, bytes) in [(0, &block[..]), (4095, &block), (2, &block), (1, &block[1..]), (1, &[1; 4096])] {
        let failure = all.take(number, bytes).unwrap_err();
        assert!(failure.what.contains(&format!("block {number}")), "{failure:?}");
        assert_eq!(all, before);
    }
    assert_eq!(all.take(0, &[0; BLOCK_LEN]), Ok(Change::Same));
}

/// F3: what a store has is read back; a sparse or missing file is a catalogue without volumes.
#[test]
fn the_catalogue_is_read_back_from_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("volume-0");
    assert_eq!(Catalogue::load(&path).unwrap(), Catalogue::new());
    let mut all = Catalogue::new();
    let file = File::create(&path).unwrap();
    for (name, seed) in [("a", 1), ("b", 2), ("c", 3)] {
        let record = all.make(name, 7, uuid(seed)).unwrap();
        write(&mut all, &record);
    }
    let gone = all.delete(Volume(2)).unwrap();
    write(&mut all, &gone);
    let group = all.want_of_all(Policy::Through);
    all.take(0, &group.encode()).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &group.encode(), 0).unwrap();
    for record in all.records.values() {
        let at = u64::from(record.volume.0) * 4096;
        std::os::unix::fs::FileExt::write_all_at(&file, &record.encode(), at).unwrap();
    }
    assert_eq!(Catalogue::load(&path).unwrap(), all);
    file.set_len(4096 * 4095).unwrap();
    assert_eq!(Catalogue::load(&path).unwrap(), all);

    std::os::unix::fs::FileExt::write_all_at(&file, &[1], 4096 * 3 + 50).unwrap();
    let failure = Catalogue::load(&path).unwrap_err();
    assert!(failure.what.contains("volume-0") && failure.what.contains("block 3"), "{failure:?}");
}

#[test]
fn uuids_are_of_version_4_and_differ() {
    let (one, two) = (draw().unwrap(), draw().unwrap());
    assert_ne!(one, two);
    let text = one.to_string();
    assert_eq!((text.len(), text.as_bytes()[14]), (36, b'4'));
    assert!(b"89ab".contains(&text.as_bytes()[19]), "{text}");
}

/// A model that is dumber: a list of names. Names are unique, numbers are unique, nothing else is lost.
#[derive(Clone, Debug)]
enum Step {
    Make(u8, u64),
    Resize(u8, u64),
    Delete(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..6_u8, 1..9_u64).prop_map(|(name, blocks)| Step::Make(name, blocks)),
        (0..6_u8, 1..9_u64).prop_map(|(name, blocks)| Step::Resize(name, blocks)),
        (0..6_u8).prop_map(Step::Delete),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #[test]
    fn the_catalogue_agrees_with_a_list_of_names(steps in steps()) {
        let (mut all, mut model) = (Catalogue::new(), BTreeMap::<String, u64>::new());
        for (seed, step) in steps.into_iter().enumerate() {
            let seed = uuid(u8::try_from(seed).unwrap() + 1);
            let of = |all: &Catalogue, name: &str| all.by_name(name).map(|record| record.volume);
            match step {
                Step::Make(name, blocks) => {
                    let name = format!("v{name}");
                    match all.make(&name, blocks, seed) {
                        Ok(record) => {
                            write(&mut all, &record);
                            prop_assert_eq!(model.insert(name, blocks), None);
                        }
                        Err(_) => prop_assert!(model.contains_key(&name)),
                    }
                }
                Step::Resize(name, blocks) => {
                    let name = format!("v{name}");
                    let Some(volume) = of(&all, &name) else { continue };
                    match all.resize(volume, blocks) {
                        Ok(record) => {
                            write(&mut all, &record);
                            let was = model.insert(name, blocks).unwrap();
                            prop_assert!(was <= blocks);
                        }
                        Err(_) => prop_assert!(blocks < model[&name]),
                    }
                }
                Step::Delete(name) => {
                    let name = format!("v{name}");
                    prop_assert_eq!(of(&all, &name).is_some(), model.contains_key(&name));
                    let Some(volume) = of(&all, &name) else { continue };
                    let record = all.delete(volume).unwrap();
                    write(&mut all, &record);
                    model.remove(&name);
                }
            }
            let mut found: Vec<_> = all.list().map(|one| (one.name.to_string(), one.blocks)).collect();
            found.sort();
            prop_assert_eq!(found, model.clone().into_iter().collect::<Vec<_>>());
        }
    }
}

//! A guest that is being read: its process says how far that is, and ends if it is told to. The rest is for
//! guests that run (S3-06).

use super::super::begins::Kept;
use super::super::order::{Event, Order};
use super::Progress;
use crate::failure::Failure;
use serde_json::{Value, json};
use std::io::{Error, Result};
use std::sync::mpsc::Receiver;

/// What `vm.info` calls it.
pub const STATE: &str = "Restoring";

/// Answers who asks meanwhile.
///
/// # Errors
///
/// It is to end.
pub fn answer(
    events: &Receiver<Event>,
    from: &Kept,
    is_leased: bool,
    Progress { done, total }: Progress,
) -> Result<()> {
    for event in events.try_iter() {
        match event {
            Event::Asked(Order::Info, answer) => answer.hear(Ok(json!({
                "state": STATE,
                "held": [],
                "lease": is_leased,
                "snapshot": { "state": "reading", "bytes": done, "of": total, "file": from.file(),
                              "own": from.own() },
            }))),
            Event::Asked(Order::Shutdown | Order::Abandon, answer) => {
                answer.hear(Ok(Value::Null));
                return Err(ended());
            }
            Event::Stop => return Err(ended()),
            Event::Asked(_, answer) => {
                let next = "wait until it runs; `vm.info` says how far it is.";
                answer.hear(Err(Failure::refused("the guest is being restored").left("").next(next)));
            }
            // Nothing of it runs; what was typed is kept until it does.
            Event::Ended(..)
            | Event::Typed
            | Event::Beats
            | Event::Lost(_)
            | Event::Departed
            | Event::Captured => {}
        }
    }
    Ok(())
}

fn ended() -> Error {
    Error::other("the guest's process was told to end before all of it was read")
}

#[cfg(test)]
mod tests {
    use super::super::super::order::Answer;
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn who_asks_a_guest_that_is_read_is_answered() {
        let (tell, events) = channel();
        let from = Kept::File("/x".into());
        let at = Progress { done: 3, total: 7 };
        let ask = |order: Order| {
            let (hear, heard) = channel();
            tell.send(Event::Asked(order, Answer::new(move |said| hear.send(said).unwrap()))).unwrap();
            (answer(&events, &from, true, at), heard.recv().unwrap())
        };
        let (goes_on, said) = ask(Order::Info);
        assert!(goes_on.is_ok());
        let expected = json!({ "state": "reading", "bytes": 3, "of": 7, "file": "/x", "own": null });
        let said = said.unwrap();
        assert_eq!(
            (&said["snapshot"], &said["state"], &said["lease"]),
            (&expected, &json!(STATE), &json!(true))
        );
        let (goes_on, said) = ask(Order::Resume);
        assert!(goes_on.is_ok() && said.unwrap_err().what.contains("is being restored"));
        tell.send(Event::Typed).unwrap();
        assert!(answer(&events, &from, true, at).is_ok());
        for order in [Order::Shutdown, Order::Abandon] {
            let (goes_on, said) = ask(order);
            assert!(goes_on.is_err() && said.is_ok());
        }
        tell.send(Event::Stop).unwrap();
        assert!(answer(&events, &from, true, at).is_err());
    }
}

//! How the process of a guest that leaves comes to a connection: by itself, or by its agent where what moves
//! may be encrypted. It learns the keys of that one connection, and no others (V22).

use super::channel::Channel;
use super::hello::{HELLO_LEN, Hello, Keys};
use super::relay;
use super::socket::Socket;
use crate::cluster::client::Client;
use crate::cluster::guest_moves::GuestRoad;
use crate::cluster::request::Request;
use crate::failure::Failure;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

/// A connection is made within this time.
const HELLO: Duration = Duration::from_secs(5);

/// Connects to where a node takes in guests, as this node's agent says, if the guest may go there; `keep` has
/// what ends it.
///
/// # Errors
///
/// There is no way, nobody is there, or somebody else.
pub fn call(
    node: &str,
    agent: &Path,
    leased: bool,
    may_go: &dyn Fn(&GuestRoad) -> Result<(), Failure>,
    keep: &mut dyn FnMut(Socket) -> Result<(), Failure>,
) -> Result<(GuestRoad, Channel), Failure> {
    let mut client = Client::connect(agent)?;
    let asked = Request::GuestRoad { node: node.to_owned(), leased };
    let road: GuestRoad = client.ask_for(&asked, "guestRoad")?;
    may_go(&road)?;
    let failed = |error| unreached(&road, &error);
    let (socket, keys) = match &road.relay {
        Some(relay) => {
            let (socket, keys) = relay::leave(relay, node).map_err(failed)??;
            (Socket::from(socket), keys)
        }
        None => {
            let wire = TcpStream::connect_timeout(&road.at, HELLO).map_err(failed)?;
            keep(Socket::from(wire.try_clone().map_err(failed)?))?;
            let keys = greet(&wire, &road, &mut client)?;
            (Socket::from(wire), keys)
        }
    };
    keep(socket.try_clone().map_err(failed)?)?;
    let channel = Channel::leaving(socket, &keys).map_err(failed)?;
    Ok((road, channel))
}

fn unreached(road: &GuestRoad, error: &std::io::Error) -> Failure {
    let GuestRoad { name, at, .. } = road;
    let next = format!("see whether its agent runs, and `guests` of {name}.");
    Failure::failed(format!("{name} cannot be reached at {at}: {error}")).next(next)
}

/// Says who this is, and hears whether that is the other node; the keys of their connection.
fn greet(mut wire: &TcpStream, road: &GuestRoad, client: &mut Client) -> Result<Keys, Failure> {
    let GuestRoad { name, at, .. } = road;
    let failed = |error| unreached(road, &error);
    wire.set_read_timeout(Some(HELLO)).map_err(failed)?;
    let hello = Hello::new(road.site(), road.from(), road.to()).map_err(failed)?;
    wire.write_all(&hello.encode()).map_err(failed)?;
    let mut bytes = [0; HELLO_LEN];
    wire.read_exact(&mut bytes).map_err(failed)?;
    let welcome = Hello::parse(&bytes).filter(|welcome| hello.is_answered_by(welcome));
    let Some(welcome) = welcome else {
        let what = format!("what answers at {at} is not {name} of this site");
        return Err(Failure::failed(what).next(format!("see `guests` of {name} in the configuration.")));
    };
    if welcome.versions != hello.versions {
        let what = format!("{name} wants what moves encrypted, and this node does not encrypt");
        let next = "write `[local.storage.tls]` in this node's file (docs/nbd.md, \"Encryption\").";
        return Err(Failure::refused(what).next(next));
    }
    let asked = Request::GuestKeys { hello: hello.encode().to_vec(), welcome: bytes.to_vec() };
    client.ask_for(&asked, "guestKeys")
}

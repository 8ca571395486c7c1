//! Asks an address whether it is there: one ICMP echo (RFC 792, RFC 4443), without a program's help.

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, recvfrom, sendto, socket};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// From one look at the socket to the next.
const POLL: Duration = Duration::from_millis(10);
/// Echo request and reply of both versions.
const V4: [u8; 2] = [8, 0];
const V6: [u8; 2] = [128, 129];

/// Whether `address` answers within a second.
///
/// # Errors
///
/// It cannot be asked: mostly for want of `CAP_NET_RAW`.
pub fn answers(address: IpAddr) -> std::io::Result<bool> {
    let (family, protocol, [request, reply]) = match address {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, V4),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, V6),
    };
    let socket = socket(family, SocketType::RAW, Some(protocol))?;
    let mut tag = [0; 4];
    getrandom::fill(&mut tag).map_err(std::io::Error::other)?;
    let message = echo(request, tag);
    match sendto(&socket, &message, SendFlags::DONTWAIT, &SocketAddr::new(address, 0)) {
        Ok(_) => {}
        // No way there at all is an answer of its own kind.
        Err(rustix::io::Errno::NETUNREACH | rustix::io::Errno::HOSTUNREACH) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    let begin = Instant::now();
    let mut buffer = [0; 256];
    while begin.elapsed() < PATIENCE {
        match recvfrom(&socket, &mut buffer, RecvFlags::DONTWAIT) {
            Ok((len, _, from)) => {
                let from = from.and_then(|from| SocketAddr::try_from(from).ok()).map(|from| from.ip());
                let packet = buffer.get(..len).unwrap_or_default();
                if from == Some(address) && is_reply(packet, address.is_ipv4(), reply, tag) {
                    return Ok(true);
                }
            }
            Err(rustix::io::Errno::AGAIN) => std::thread::sleep(POLL),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

/// Type, code, checksum, and `tag` as identifier and sequence number. The kernel fills in the checksum of
/// version 6.
fn echo(kind: u8, tag: [u8; 4]) -> [u8; 8] {
    let [a, b, c, d] = tag;
    let words = [[kind, 0], [a, b], [c, d]].map(u16::from_be_bytes);
    let sum: u32 = words.into_iter().map(u32::from).sum();
    // The one's complement sum of three words carries once.
    let [_, _, high, low] = (!(sum.wrapping_add(sum >> 16))).to_be_bytes();
    [kind, 0, high, low, a, b, c, d]
}

/// A raw socket of version 4 gives the IP header too.
fn is_reply(packet: &[u8], has_header: bool, reply: u8, tag: [u8; 4]) -> bool {
    let header = match (has_header, packet.first()) {
        (true, Some(first)) => usize::from(first & 0x0f).saturating_mul(4),
        (true, None) | (false, _) => 0,
    };
    let Some([kind, 0, _, _, rest @ ..]) = packet.get(header..) else { return false };
    *kind == reply && rest.first_chunk() == Some(&tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn the_checksum_makes_the_sum_all_ones() {
        for tag in [[0; 4], [0xff; 4], [0x12, 0x34, 0xf0, 0x0f]] {
            let sum: u32 =
                echo(8, tag).as_chunks::<2>().0.iter().map(|two| u32::from(u16::from_be_bytes(*two))).sum();
            assert_eq!((sum + (sum >> 16)) & 0xffff, 0xffff, "{tag:?}");
        }
    }

    #[test]
    fn only_our_own_reply_counts() {
        let tag = [1, 2, 3, 4];
        let mut packet = vec![0x45; 20];
        packet.extend([0, 0, 9, 9, 1, 2, 3, 4]);
        assert!(is_reply(&packet, true, 0, tag) && !is_reply(&packet, true, 0, [9; 4]));
        for len in 0..packet.len() {
            assert!(!is_reply(&packet[..len], true, 0, tag));
        }
        assert!(is_reply(&packet[20..], false, 0, tag));
    }

    #[test]
    fn this_machine_answers_and_a_test_network_does_not() {
        match answers(Ipv4Addr::LOCALHOST.into()) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                println!("skipped: this user may not send echoes ({error})");
            }
            answer => {
                assert!(answer.unwrap());
                assert!(!answers(Ipv4Addr::new(192, 0, 2, 77).into()).unwrap());
                // A machine without version 6 has no socket for it.
                assert!(answers(Ipv6Addr::LOCALHOST.into()).unwrap_or(true));
            }
        }
    }
}

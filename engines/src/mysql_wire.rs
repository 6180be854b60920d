//! The part of MySQL's protocol that SphinxQL is spoken in: a handshake without a password, text queries, text rows.
//!
//! Written here because the crates that speak it expect a MySQL server: they ask for its variables at connection, prepare
//! statements, bound no reply, and bring forty crates with them. Sphinx and Manticore know no accounts, so there is nothing
//! to prove to them; a server that asks for a password refuses the connection.

use std::{
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::{Duration, Instant},
};

use crate::error::Fault;

/// Version 4.1 of the protocol, its authentication, transactions (some servers insist), and results one after another.
const CAPABILITIES: u32 = 0x0000_0200 | 0x0000_8000 | 0x0000_2000;
/// UTF-8, as MySQL numbers it.
const CHARSET: u8 = 33;
/// Longest packet that either side takes: Sphinx's own default.
pub(crate) const LONGEST_PACKET: usize = 8 << 20;
/// Longest reply in all.
const LONGEST_REPLY: usize = 64 << 20;

/// One value; `None` is NULL.
pub(crate) type Cell = Option<String>;

/// Rows, and how many warnings came with them.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Rows {
    pub(crate) rows: Vec<Vec<Cell>>,
    pub(crate) warnings: u16,
}

/// A connection.
pub(crate) struct Connection {
    stream: TcpStream,
    deadline: Instant,
    sequence: u8,
}

impl Connection {
    /// Connects to `HOST:PORT`; everything that follows ends by `time` from now, until [`Connection::within`].
    pub(crate) fn open(address: &str, time: Duration) -> Result<Self, Fault> {
        let deadline = Instant::now() + time;
        let mut last = Fault::failed(format!("`{address}` names no address"));
        for one in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&one, time.max(Duration::from_millis(1))) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    let mut connection = Self { stream, deadline, sequence: 0 };
                    connection.greet()?;
                    return Ok(connection);
                }
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }

    /// A new deadline.
    pub(crate) fn within(&mut self, time: Duration) {
        self.deadline = Instant::now() + time;
    }

    fn greet(&mut self) -> Result<(), Fault> {
        let greeting = self.packet()?;
        if greeting.first() == Some(&0xff) {
            return Err(refusal(&greeting));
        }
        if greeting.first() != Some(&10) {
            return Err(Fault::broken("a greeting of protocol 10", &String::from_utf8_lossy(&greeting)));
        }
        let mut answer = CAPABILITIES.to_le_bytes().to_vec();
        answer.extend((LONGEST_PACKET as u32).to_le_bytes());
        answer.push(CHARSET);
        answer.extend([0; 23]);
        // User, and the length of a password that is not there.
        answer.extend(b"orion\0\0");
        self.send(&answer)?;
        let reply = self.packet()?;
        match reply.first() {
            Some(0) => Ok(()),
            Some(0xff) => Err(refusal(&reply)),
            _ => {
                Err(Fault::Refused("the server asks for a password, which SphinxQL does not have".to_owned()))
            }
        }
    }

    /// One statement and its result.
    pub(crate) fn query(&mut self, statement: &str) -> Result<Rows, Fault> {
        if LONGEST_PACKET <= statement.len() {
            let message =
                format!("expected a statement below {LONGEST_PACKET} bytes, got {}", statement.len());
            return Err(Fault::Refused(message));
        }
        self.sequence = 0;
        self.send(&[&[3], statement.as_bytes()].concat())?;
        let first = self.packet()?;
        match first.first() {
            Some(0xff) => return Err(refusal(&first)),
            // Affected rows, last id, status, warnings.
            Some(0) => {
                let mut at = 1;
                number(&first, &mut at)?;
                number(&first, &mut at)?;
                return Ok(Rows { rows: Vec::new(), warnings: short(&first, at + 2) });
            }
            _ => {}
        }
        let columns = number(&first, &mut 0)?;
        let mut read = first.len();
        for _ in 0..columns {
            read += self.packet()?.len();
        }
        let end = self.packet()?;
        if !is_end(&end) {
            return Err(Fault::broken("the end of the columns", &String::from_utf8_lossy(&end)));
        }
        let mut found = Rows::default();
        loop {
            let packet = self.packet()?;
            if packet.first() == Some(&0xff) {
                return Err(refusal(&packet));
            }
            if is_end(&packet) {
                found.warnings = short(&packet, 1);
                return Ok(found);
            }
            read += packet.len();
            if LONGEST_REPLY < read {
                return Err(Fault::Refused(format!(
                    "expected a reply below {LONGEST_REPLY} bytes, got more"
                )));
            }
            let mut at = 0;
            found.rows.push((0..columns).map(|_| cell(&packet, &mut at)).collect::<Result<_, _>>()?);
        }
    }

    fn time_left(&self) -> Result<Duration, Fault> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(Fault::failed("no answer in time")) } else { Ok(left) }
    }

    fn send(&mut self, payload: &[u8]) -> Result<(), Fault> {
        self.stream.set_write_timeout(Some(self.time_left()?))?;
        let mut packet = (payload.len() as u32).to_le_bytes();
        packet[3] = self.sequence;
        self.sequence = self.sequence.wrapping_add(1);
        self.stream.write_all(&[&packet, payload].concat())?;
        Ok(())
    }

    fn packet(&mut self) -> Result<Vec<u8>, Fault> {
        let mut head = [0; 4];
        self.read(&mut head)?;
        let length = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
        // Longer packets come in parts that none of the replies read here needs.
        if length == 0xff_ffff {
            return Err(Fault::Refused("expected packets below 16 MB, got a longer one".to_owned()));
        }
        self.sequence = head[3].wrapping_add(1);
        let mut payload = vec![0; length];
        self.read(&mut payload)?;
        Ok(payload)
    }

    fn read(&mut self, mut buffer: &mut [u8]) -> Result<(), Fault> {
        while !buffer.is_empty() {
            self.stream.set_read_timeout(Some(self.time_left()?))?;
            match self.stream.read(buffer) {
                Ok(0) => return Err(Fault::failed("the connection was closed")),
                Ok(count) => buffer = &mut buffer[count..],
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return Err(Fault::failed("no answer in time"));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn is_end(packet: &[u8]) -> bool {
    packet.first() == Some(&0xfe) && packet.len() < 9
}

fn short(packet: &[u8], at: usize) -> u16 {
    packet.get(at..at + 2).map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
}

/// An error packet: code, state after `#`, message. Codes that speak of connections and overload may pass.
fn refusal(packet: &[u8]) -> Fault {
    let code = short(packet, 1);
    let message = packet.get(3..).unwrap_or_default();
    let message = if message.first() == Some(&b'#') { message.get(6..).unwrap_or_default() } else { message };
    let reason = format!("{} ({code})", orion_endpoint::shortened(&String::from_utf8_lossy(message)));
    match code {
        // Too many connections, server shutdown, host blocked.
        1040 | 1053 | 1129 => Fault::failed(reason),
        // Sphinx has one code for everything; what is said decides.
        _ if ["maxed out", "timed out", "timeout", "no available", "connect"]
            .iter()
            .any(|word| reason.contains(word)) =>
        {
            Fault::failed(reason)
        }
        _ => Fault::Refused(reason),
    }
}

fn broken_row() -> Fault {
    Fault::failed("expected a row of the columns announced, got a shorter one")
}

/// A length-encoded number.
fn number(packet: &[u8], at: &mut usize) -> Result<u64, Fault> {
    let first = *packet.get(*at).ok_or_else(broken_row)?;
    let width = match first {
        0..=0xfa => 0,
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        _ => return Err(broken_row()),
    };
    *at += 1;
    if width == 0 {
        return Ok(u64::from(first));
    }
    let bytes = packet.get(*at..*at + width).ok_or_else(broken_row)?;
    *at += width;
    Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn cell(packet: &[u8], at: &mut usize) -> Result<Cell, Fault> {
    if packet.get(*at) == Some(&0xfb) {
        *at += 1;
        return Ok(None);
    }
    let length = usize::try_from(number(packet, at)?).map_err(|_| broken_row())?;
    let end = at.checked_add(length).ok_or_else(broken_row)?;
    let bytes = packet.get(*at..end).ok_or_else(broken_row)?;
    *at = end;
    Ok(Some(String::from_utf8_lossy(bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_or_refused() {
        let packet = [3, b'a', b'b', b'c', 0xfb, 0xfc, 2, 0, b'd', b'e'];
        let mut at = 0;
        let mut next = || cell(&packet, &mut at);
        assert_eq!(next().unwrap().as_deref(), Some("abc"));
        assert_eq!(next().unwrap(), None);
        assert_eq!(next().unwrap().as_deref(), Some("de"));
        assert!(next().is_err());
        for lie in [&[5, b'a'][..], &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], &[0xff]] {
            assert!(cell(lie, &mut 0).is_err(), "{lie:?}");
        }
    }
}

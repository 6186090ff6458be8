//! One connection that is kept, and one request after the other on it.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::answer::{Body, Head, Malformed, read_head};

/// What is read at once. All connections of this one thread share the buffer: none waits while it uses it.
const READ_BYTES: usize = 256 * 1024;
/// A longer head is not a shop's.
const HEAD_BYTES_MAX: usize = 256 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// No connection.
    Connect,
    /// The connection ended, or was reset, before the answer was whole.
    Closed,
    /// It took longer than the visitor's patience.
    Timeout,
    /// What came is no answer in HTTP/1.1.
    Malformed,
}

impl Fault {
    /// As the results call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
            Self::Malformed => "malformed",
        }
    }
}

impl From<Malformed> for Fault {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// A client of a server.
pub struct Client {
    target: SocketAddr,
    source: IpAddr,
    stream: Option<TcpStream>,
}

/// Why a connection gave nothing: one that was kept may have ended just before it was used again.
enum Cut {
    BeforeAnswer,
    Other(Fault),
}

impl From<Malformed> for Cut {
    fn from(_: Malformed) -> Self {
        Self::Other(Fault::Malformed)
    }
}

impl Client {
    /// One that connects with its first request.
    pub fn new(target: SocketAddr, source: IpAddr) -> Self {
        Self { target, source, stream: None }
    }

    /// Sends a request and takes the answer in whole, within so much time. A kept connection that turns out to have ended
    /// before anything was answered is replaced once, as browsers do.
    pub async fn ask(&mut self, request: &[u8], patience: Duration) -> Result<Head, Fault> {
        let answer = tokio::time::timeout(patience, self.ask_patiently(request)).await;
        let answer = answer.unwrap_or(Err(Fault::Timeout));
        if answer.as_ref().map_or(true, |head| head.closes) {
            self.stream = None;
        }
        answer
    }

    async fn ask_patiently(&mut self, request: &[u8]) -> Result<Head, Fault> {
        if let Some(mut stream) = self.stream.take() {
            match exchange(&mut stream, request).await {
                Ok(head) => {
                    self.stream = Some(stream);
                    return Ok(head);
                }
                Err(Cut::Other(fault)) => return Err(fault),
                Err(Cut::BeforeAnswer) => {}
            }
        }
        let mut stream = self.connect().await.map_err(|_| Fault::Connect)?;
        let answer = exchange(&mut stream, request).await;
        let head = answer.map_err(|cut| match cut {
            Cut::BeforeAnswer => Fault::Closed,
            Cut::Other(fault) => fault,
        })?;
        self.stream = Some(stream);
        Ok(head)
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        let socket = if self.source.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.bind(SocketAddr::new(self.source, 0))?;
        let stream = socket.connect(self.target).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// One request and its answer.
async fn exchange(stream: &mut TcpStream, request: &[u8]) -> Result<Head, Cut> {
    stream.write_all(request).await.map_err(|_| Cut::BeforeAnswer)?;
    // Bytes of a head that did not come at once.
    let mut begun = Vec::new();
    let mut answer: Option<(Head, Body)> = None;
    loop {
        stream.readable().await.map_err(|_| Cut::Other(Fault::Closed))?;
        let done = BUFFER.with_borrow_mut(|buffer| match stream.try_read(buffer) {
            Ok(0) => ended(&begun, answer.as_ref()),
            Ok(count) => take(&buffer[..count], &mut begun, &mut answer),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(_) if begun.is_empty() && answer.is_none() => Err(Cut::BeforeAnswer),
            Err(_) => Err(Cut::Other(Fault::Closed)),
        })?;
        if done && let Some((head, _)) = answer {
            return Ok(head);
        }
    }
}

/// The connection's end: the end of a body that has no other.
fn ended(begun: &[u8], answer: Option<&(Head, Body)>) -> Result<bool, Cut> {
    match answer {
        Some((_, Body::UntilClose)) => Ok(true),
        None if begun.is_empty() => Err(Cut::BeforeAnswer),
        _ => Err(Cut::Other(Fault::Closed)),
    }
}

/// Takes what was read. Whether the answer is whole.
fn take(bytes: &[u8], begun: &mut Vec<u8>, answer: &mut Option<(Head, Body)>) -> Result<bool, Cut> {
    if let Some((_, body)) = answer {
        return Ok(body.take(bytes)?);
    }
    let all = if begun.is_empty() {
        bytes
    } else {
        begun.extend_from_slice(bytes);
        begun.as_slice()
    };
    let Some((head, length)) = read_head(all)? else {
        if all.len() > HEAD_BYTES_MAX {
            return Err(Cut::Other(Fault::Malformed));
        }
        if begun.is_empty() {
            begun.extend_from_slice(bytes);
        }
        return Ok(false);
    };
    if (100..200).contains(&head.status) {
        // An interim answer; what follows it may be here already.
        let rest = all[length..].to_vec();
        begun.clear();
        return if rest.is_empty() { Ok(false) } else { take(&rest, begun, answer) };
    }
    let mut body = head.body.clone();
    let whole = body.take(&all[length..])?;
    *answer = Some((head, body));
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(pieces: &[&[u8]]) -> Option<u16> {
        let (mut begun, mut answer) = (Vec::new(), None);
        for (at, piece) in pieces.iter().enumerate() {
            match take(piece, &mut begun, &mut answer) {
                Ok(true) => {
                    assert_eq!(at + 1, pieces.len());
                    return answer.map(|(head, _)| head.status);
                }
                Ok(false) => {}
                Err(_) => return None,
            }
        }
        None
    }

    #[test]
    fn an_answer_is_whole_however_it_is_split() {
        let text: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        for split in 1..text.len() {
            assert_eq!(whole(&[&text[..split], &text[split..]]), Some(200), "{split}");
        }
        let interim: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(whole(&[interim]), Some(302));
        assert_eq!(whole(&[b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd"]), None);
    }
}

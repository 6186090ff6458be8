//! A connection after another process has taken over: what its client sends goes on to that one, so that
//! no two processes keep different objects for the same shop.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpStream, UnixStream};

use crate::keyspace::{Anew, Session};
use crate::resp::{ReplyLimits, ReplyState, Request, read_reply};
use crate::settings::Endpoint;

/// What answers to the greeting may take.
const REPLIES: ReplyLimits = ReplyLimits {
    line_max_bytes: 64 << 10,
    bulk_max_bytes: 64 << 10,
    elements_max: 1_000,
    reply_max_bytes: 64 << 10,
};

/// Passes on what comes, both ways, until one side ends; before that, `greeting`, and `rest`, whose replies the
/// client waits for.
pub(super) async fn pass_on<S>(
    stream: &mut S,
    greeting: Greeting,
    rest: &[u8],
    endpoint: &Endpoint,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match endpoint {
        Endpoint::Tcp(address) => {
            let next = TcpStream::connect(address).await?;
            next.set_nodelay(true)?;
            pass_to(stream, greeting, rest, next).await
        }
        Endpoint::Unix(path) => {
            let next = UnixStream::connect(path).await?;
            pass_to(stream, greeting, rest, next).await
        }
    }
}

async fn pass_to<S, N>(
    stream: &mut S,
    greeting: Greeting,
    rest: &[u8],
    mut next: N,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    N: AsyncRead + AsyncWrite + Unpin,
{
    let (greeting, mut awaited) = greeting;
    next.write_all(&greeting).await?;
    let (mut came, mut state) = (BytesMut::new(), ReplyState::default());
    while awaited > 0 {
        match read_reply(&mut came, &REPLIES, &mut state) {
            Ok(Some(_)) => awaited -= 1,
            Ok(None) => {
                if next.read_buf(&mut came).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    next.write_all(rest).await?;
    copy_bidirectional(stream, &mut next).await.map(drop)
}

/// What makes a new connection what a client's is, and how many replies that has.
pub(super) type Greeting = (BytesMut, usize);

/// Of a client's connection.
pub(super) fn greeting(session: &Session) -> Greeting {
    let Anew { is, amid } = session.anew();
    // It has not begun with these. A release that does not know the command says so, and that is all.
    let began = Request::pack(&[b"PARVIS.BEGAN"]);
    let awaited = is.len() + 1 + if session.is_silent() { 0 } else { amid.len() };
    let mut out = BytesMut::new();
    for command in is.iter().chain([&began]).chain(&amid) {
        out.extend_from_slice(command.raw());
    }
    (out, awaited)
}

//! A connection after another process has taken over: what its client sends goes on to that one, so that
//! no two processes keep different objects for the same shop.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpStream, UnixStream};

use crate::keyspace::Session;
use crate::resp::{Protocol, ReplyLimits, ReplyState, Request, read_reply, write};
use crate::settings::Endpoint;

/// What answers to the greeting may take.
const REPLIES: ReplyLimits = ReplyLimits {
    line_max_bytes: 64 << 10,
    bulk_max_bytes: 64 << 10,
    elements_max: 1_000,
    reply_max_bytes: 64 << 10,
};

/// Passes on what comes, both ways, until one side ends; before that, `begun`, whose replies the client has
/// had, and `rest`, whose replies it waits for.
pub(super) async fn pass_on<S>(
    stream: &mut S,
    session: &Session,
    begun: &[Request],
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
            pass_to(stream, session, begun, rest, next).await
        }
        Endpoint::Unix(path) => {
            let next = UnixStream::connect(path).await?;
            pass_to(stream, session, begun, rest, next).await
        }
    }
}

async fn pass_to<S, N>(
    stream: &mut S,
    session: &Session,
    begun: &[Request],
    rest: &[u8],
    mut next: N,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    N: AsyncRead + AsyncWrite + Unpin,
{
    let (mut greeting, mut awaited) = greeting(session);
    for request in begun {
        greeting.extend_from_slice(request.raw());
    }
    awaited += begun.len() - usize::from(session.is_silent());
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

/// What makes a new connection what this one is, and how many replies that has.
fn greeting(session: &Session) -> (BytesMut, usize) {
    let mut commands: Vec<Vec<Vec<u8>>> = Vec::new();
    let mut say = |words: &[&[u8]]| commands.push(words.iter().map(|word| word.to_vec()).collect());
    if session.protocol() == Protocol::Resp3 {
        say(&[b"HELLO", b"3"]);
    }
    if session.database() > 0 {
        say(&[b"SELECT", session.database().to_string().as_bytes()]);
    }
    if !session.name().is_empty() {
        say(&[b"CLIENT", b"SETNAME", session.name()]);
    }
    let mut out = BytesMut::new();
    for command in &commands {
        let words: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
        write::command(&mut out, &words);
    }
    (out, commands.len())
}

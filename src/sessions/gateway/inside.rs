//! Commands of a client whose sessions this server keeps itself.

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};

use super::client::{Client, Closed, End, tell};
use super::commands::{Class, Own};
use super::own::After;
use crate::keyspace::After as Then;
use crate::resp::{Protocol, Request};

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// A command of a client whose sessions are here.
    pub(super) async fn take_inside(&mut self, request: &Request, class: Class) -> Result<(), End> {
        let Some(session) = &self.inside else { return Ok(()) };
        // What is done at the end of a transaction is not told apart: a lock in one is looked for.
        let wrote = if session.is_in_transaction() { Vec::new() } else { self.writes(request) };
        match class {
            Class::Own(own @ (Own::Auth | Own::Unsubscribe)) => {
                return self.answer(own, request).await;
            }
            Class::Own(Own::Hello) => {
                self.introduce_inside(request);
                return Ok(());
            }
            Class::Own(Own::Reset) => self.manners.forget(&self.gateway.door),
            Class::Refused(why) => {
                self.refuse_command(request, why);
                return Ok(());
            }
            _ => {}
        }
        let from = self.out.len();
        let Some(session) = &mut self.inside else { return Ok(()) };
        let then = session.execute(request, &mut self.out);
        let database = u32::try_from(session.database()).unwrap_or_default();
        self.manners.database = database;
        if self.out.get(from) != Some(&b'-') {
            tell(self.locks.as_mut(), wrote);
        }
        if then == Then::Continue { self.write_long().await } else { Err(Closed) }
    }

    /// HELLO, of which login and name are this server's.
    fn introduce_inside(&mut self, request: &Request) {
        let (door, databases) = (self.gateway.door.clone(), self.gateway.bounds.databases);
        let after = self.manners.answer(Own::Hello, request, (&door, databases), &mut self.out);
        if after != After::AskWho {
            return;
        }
        let Some(session) = &mut self.inside else { return };
        let version: &[u8] = if self.manners.protocol == Protocol::Resp3 { b"3" } else { b"2" };
        let mut said = BytesMut::new();
        let mut hello: Vec<&[u8]> = vec![b"HELLO", version];
        if !self.manners.name.is_empty() {
            hello.extend([&b"SETNAME"[..], &self.manners.name]);
        }
        session.execute(&Request::pack(&hello), &mut said);
        self.manners.introduce(&said.freeze(), &mut self.out);
    }
}

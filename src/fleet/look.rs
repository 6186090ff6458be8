//! Looks who is there, for as long as the process lives. While Redis is away the last view stays.

use std::sync::Arc;

use super::link::{Link, SHORT_PAUSE};
use super::members;
use super::peer::Peers;
use super::stand::Guard;
use crate::observe::State;

pub(super) async fn run(link: Arc<Link>, peers: Option<Arc<Peers>>, state: Arc<State>) {
    let mut guard = Guard::default();
    loop {
        if let Ok(members) = members::list(&link).await {
            if let Some(peers) = &peers {
                peers.see(&link.name, &link.release.load(), &members);
            }
            guard.look(&link, &state, &members);
            link.hosts.see(&members);
            link.members.store(Some(Arc::new(members)));
        }
        // At the start Redis may not have been reached yet.
        let has_looked = link.members.load().is_some();
        let pause = if has_looked { link.settings.heartbeat } else { SHORT_PAUSE };
        tokio::time::sleep(pause).await;
    }
}

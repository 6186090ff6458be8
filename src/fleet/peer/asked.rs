//! What another node has asked, and who answers it.

use std::net::IpAddr;

use bytes::Bytes;
use http::StatusCode;

use super::Lender;
use super::message::{Answer, Ask, Question};
use super::warm_message::{Hottest, HottestAsk, Inherited, LeavingAsk, TakeAsk, encode_parcels};

/// A question of any kind.
pub(super) enum Asked {
    Page(Ask),
    Hottest(HottestAsk),
    Take(TakeAsk),
    Leaving(LeavingAsk),
}

impl Asked {
    /// Reads a question.
    ///
    /// # Errors
    /// The status with which to refuse it: 404 where nothing is asked at this path, 400.
    pub(super) fn read(path: &str, content: Bytes) -> Result<Self, StatusCode> {
        let asked = match path {
            Ask::PATH => Ask::decode(content).map(Self::Page),
            HottestAsk::PATH => HottestAsk::decode(content).map(Self::Hottest),
            TakeAsk::PATH => TakeAsk::decode(content).map(Self::Take),
            LeavingAsk::PATH => LeavingAsk::decode(content).map(Self::Leaving),
            _ => return Err(StatusCode::NOT_FOUND),
        };
        asked.ok_or(StatusCode::BAD_REQUEST)
    }

    /// The answer as it is sent, and whether it is a page for a visitor.
    pub(super) async fn answered_by<L: Lender>(self, lender: &L, from: IpAddr) -> (Bytes, bool) {
        match self {
            Self::Page(ask) => {
                let lent = lender.lend(ask, from).await;
                (lent.encode(), matches!(lent.answer, Answer::Page { .. }))
            }
            Self::Hottest(ask) => (Hottest::encode(&lender.hottest(ask).await), false),
            Self::Take(ask) => (encode_parcels(&lender.give(ask).await), false),
            Self::Leaving(ask) => (Inherited::encode(&lender.inherit(ask).await), false),
        }
    }
}

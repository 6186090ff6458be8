//! Tests of the rules as a whole.

mod client_fields;
mod corpus;
mod fills_and_passes;
mod generic;
mod keys;
mod passes;
mod peers;
mod properties;
mod purges;
mod responses;
mod sessions;
mod settings;

use bytes::Bytes;
use http::{Method, StatusCode, Version};

use crate::body::Body;
use crate::exchange::{Beside, Client, Connection, Peer, Request};
use crate::fields::Fields;
use crate::policy::{LookupPlan, OriginHead, Plan, Policy, client};
use crate::reason::Reason;
use crate::settings::{Networks, Settings, Site};

/// A GET over HTTP/1.1 from 192.0.2.1; the authority is that of a Host among the fields, else
/// `shop.test`.
pub(in crate::policy) fn get<const N: usize>(
    target: &str,
    fields: [(&'static str, &str); N],
) -> Request {
    request("GET", target, Fields::from(fields))
}

pub(in crate::policy) fn request(method: &str, target: &str, fields: Fields) -> Request {
    Request {
        method: Method::from_bytes(method.as_bytes()).expect("a method"),
        target: Bytes::copy_from_slice(target.as_bytes()),
        authority: fields.first("host").cloned().unwrap_or(Bytes::from_static(b"shop.test")),
        version: Version::HTTP_11,
        fields,
        body: Body::empty(),
        beside: Beside::default(),
        connection: Connection {
            peer: Peer::Ip(([192, 0, 2, 1], 5000).into()),
            local: Some(([192, 0, 2, 9], 80).into()),
            tls: false,
        },
    }
}

/// The same request from this machine, which is trusted and may purge.
fn from_loopback(mut request: Request) -> Request {
    request.connection.peer = Peer::Ip(([127, 0, 0, 1], 5000).into());
    request
}

/// The rules with some settings of `[site]` changed.
fn policy(change: impl FnOnce(&mut Site)) -> Policy {
    let mut settings = Settings::default();
    change(&mut settings.site);
    Policy::new(&settings).expect("valid settings")
}

fn magento() -> Policy {
    policy(|_| {})
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

pub(in crate::policy) fn resolve(request: &Request) -> Client {
    client::resolve(&Networks::loopback(), request)
}

fn plan(policy: &Policy, request: &Request) -> Plan {
    policy.plan(request, &resolve(request))
}

fn pass_reason(policy: &Policy, request: &Request) -> Option<Reason> {
    match plan(policy, request) {
        Plan::Pass(reason) => Some(reason),
        _ => None,
    }
}

/// The plan of a request that is looked up.
fn lookup(policy: &Policy, request: &Request) -> LookupPlan {
    match plan(policy, request) {
        Plan::Lookup(plan) => plan,
        other => panic!("not looked up: {other:?}"),
    }
}

/// Do the two share a stored response?
fn share(policy: &Policy, one: &Request, two: &Request) -> bool {
    lookup(policy, one).key == lookup(policy, two).key
}

fn head<const N: usize>(status: u16, fields: [(&'static str, &str); N]) -> OriginHead {
    OriginHead {
        status: StatusCode::from_u16(status).expect("a status"),
        fields: Fields::from(fields),
    }
}

//! Parvis: a caching reverse proxy which runs as a sidecar on every Magento 2 web server.
//!
//! The map of the house. A module uses only modules of lower levels; `tests/house` holds that.
//!
//! | level | modules | job |
//! | --- | --- | --- |
//! | 0 | [`settings`], [`clock`], [`body`], [`fields`], [`exchange`], [`reason`], [`random`], [`unix_stream`] | shared primitives; they know no routes |
//! | 1 | [`policy`] | pure rules: request -> `Plan`, response -> `Storable` or a reason |
//! | 1 | [`snapshot`] | stored responses as bytes, on their way |
//! | 1 | [`resp`] | the protocol of Redis as bytes |
//! | 1 | [`tokens`] | signed tokens, which clients keep and bring back |
//! | 2 | [`store`], [`observe`], [`redis_pool`] | stored responses and their tags; logs and metrics; connections to Redis |
//! | 2 | [`error_pages`] | what a visitor sees where there is no response |
//! | 2 | [`admission`] | whose request goes to PHP next, and how many do |
//! | 2 | [`keyspace`] | the commands of Redis on databases in memory |
//! | 3 | [`fill`], [`origin`], [`esi`], [`delivery`] | one fetch per key; where misses go; how a stored response leaves |
//! | 3 | [`sessions`] | the sessions of the shop, on their way between PHP and Redis |
//! | 3 | [`objects`] | the object cache of the shop, which PHP asks as it would Redis |
//! | 3 | [`traffic`] | who asks, and what they may do |
//! | 3 | [`waiting_room`] | where visitors wait while the shop is full |
//! | 4 | [`pipeline`] | the order of the steps; errors become responses here alone |
//! | 5 | [`listener`], [`control`], [`lifecycle`], [`keeper`] | sockets, the admin's API, from start to stop, what is stored over a restart |
//! | 6 | [`app`], [`cli`], [`demo`] | construct and wire, subcommands |

pub mod body;
pub mod clock;
pub mod exchange;
pub mod fields;
pub mod random;
pub mod reason;
pub mod settings;
pub mod unix_stream;

pub mod policy;
pub mod resp;
pub mod snapshot;
pub mod tokens;

pub mod admission;
pub mod error_pages;
pub mod keyspace;
pub mod observe;
pub mod redis_pool;
pub mod store;

pub mod delivery;
pub mod esi;
pub mod fill;
pub mod fleet;
pub mod objects;
pub mod origin;
pub mod sessions;
pub mod traffic;
pub mod waiting_room;

pub mod pipeline;

pub mod control;
pub mod keeper;
pub mod lifecycle;
pub mod listener;

pub mod app;
pub mod cli;
pub mod demo;

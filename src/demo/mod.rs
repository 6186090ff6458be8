//! `parvis demo`: a node in front of a small embedded store, to be looked at in a browser.

mod shop;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use crate::app::{self, AppError, Server};
use crate::cli::DemoOptions;
use crate::clock::Clock;
use crate::listener::{self, Limits, Shutdown};
use crate::observe::start_tracing;
use crate::settings::{AccessLog, Endpoint, Listen, Settings};
use shop::Shop;

/// Runs until it is interrupted. 0: it stopped in order; 2: it could not start.
pub fn run(options: &DemoOptions) -> ExitCode {
    match start(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("parvis demo: {error}");
            eprintln!("Another port can be chosen: parvis demo --port 7081");
            ExitCode::from(2)
        }
    }
}

fn start(options: &DemoOptions) -> Result<(), AppError> {
    start_tracing("warn")?;
    let runtime = app::runtime(0)?;
    runtime.block_on(async {
        let mut settings = settings(options.port);
        // The store purges its sidecar, so the sidecar's port must be known first.
        let doors = app::open(&settings, app::no_activated_sockets())?;
        let sidecar = tcp_address(doors.http())?;
        let control = tcp_address(doors.control())?;
        settings.origin.http = Some(open_shop(sidecar)?);
        let server = Server::behind(doors, settings, None, None).await?;
        // A reader who has gone needs no greeting.
        let _ = greet(&mut std::io::stdout().lock(), sidecar, control);
        server.run_until_told().await
    })?;
    runtime.shutdown_background();
    Ok(())
}

fn tcp_address<'a>(
    mut endpoints: impl Iterator<Item = &'a Endpoint>,
) -> Result<SocketAddr, AppError> {
    match endpoints.next() {
        Some(Endpoint::Tcp(address)) => Ok(*address),
        _ => Err(AppError::Runtime(std::io::ErrorKind::AddrNotAvailable.into())),
    }
}

/// Serves the store on a port of its own and says where.
fn open_shop(sidecar: SocketAddr) -> Result<Endpoint, AppError> {
    let anywhere = [Endpoint::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))];
    let mut doors = listener::bind("the demo's store", &anywhere)?;
    let Some(door) = doors.pop() else {
        return Err(AppError::Runtime(std::io::ErrorKind::AddrNotAvailable.into()));
    };
    let endpoint = door.endpoint().clone();
    let shop = Arc::new(Shop::new(sidecar, Clock::system()));
    let limits = Arc::new(Limits::from(&Listen::default()));
    tokio::spawn(listener::serve(door, None, shop, limits, Shutdown::new()));
    Ok(endpoint)
}

/// The control listener takes the next port, or any where there is none.
fn settings(port: u16) -> Settings {
    let control = if port == 0 { 0 } else { port.checked_add(1).unwrap_or(0) };
    let loopback = |port| Endpoint::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let mut settings = Settings::default();
    settings.listen.http = vec![loopback(port)];
    settings.listen.control = loopback(control);
    settings.health.probe = Some(String::new());
    settings.log.access = AccessLog::Off;
    settings.store.memory_bytes = 64 << 20;
    settings.lifecycle.drain = std::time::Duration::ZERO;
    // What the store changes is visible before it purges.
    settings.purge.echo = std::time::Duration::ZERO;
    settings
}

fn greet(out: &mut impl Write, sidecar: SocketAddr, control: SocketAddr) -> std::io::Result<()> {
    // As it was started, so that the lines below can be copied.
    let program = std::env::args_os().next().unwrap_or_else(|| "parvis".into());
    let program = program.to_string_lossy();
    writeln!(
        out,
        "Maison Parvis is open: http://{sidecar}/

A small store whose PHP takes 300 ms a page, and Parvis in front of it.
Open the address in a browser and
  - load the page again: a hit, from memory, in about 1 ms;
  - change a price: a purge drops the pages that show it, and only the next visitor waits for PHP;
  - add to the cart: the page stays shared, the cart is the visitor's alone.

Or in another terminal:
  curl -s -o /dev/null -D - http://{sidecar}/      # Cache-Status: a miss first, then a hit
  {program} purge --tag cat_p_0 --control {control}
  {program} stats --control {control}

Ctrl-C ends it."
    )?;
    out.flush()
}

//! A restart that hands over: connections go on, and there is one set of objects.

use parvis::resp::Value;

use super::Kept;
use crate::restart::Successors;

#[test]
fn connections_go_on_over_a_restart_and_see_what_the_new_process_keeps() {
    let mut kept = Kept::start(&[]);
    let ok = Value::Simple("OK".into());
    let (mut idle, mut amid) = (kept.connect(), kept.connect());
    assert_eq!(idle.say("SELECT 1"), ok);
    assert_eq!(idle.say("SET before x"), ok);
    assert_eq!(amid.say("MULTI"), ok);
    assert_eq!(amid.say("SET queued 1"), Value::Simple("QUEUED".into()));
    let mut successors = Successors::new();
    successors.restart(&kept.parvis);
    let mut new = kept.connect();
    assert_eq!(new.say("SELECT 1"), ok);
    // The new process begins empty, for all.
    assert_eq!(new.say("GET before"), Value::Null);
    assert_eq!(idle.say("GET before"), Value::Null);
    // What one sees the others see: database and connection went over.
    assert_eq!(idle.say("SET after y"), ok);
    assert_eq!(new.say("GET after"), Value::Bulk("y".into()));
    assert_eq!(new.say("FLUSHALL"), ok);
    assert_eq!(idle.say("GET after"), Value::Null);
    // What was begun is finished where it was begun; the next command is the new process'.
    assert_eq!(amid.say("EXEC"), Value::Array(vec![ok.clone()]));
    assert_eq!(amid.say("GET queued"), Value::Null);
    drop((idle, amid));
    crate::restart::first_ends(&mut kept.parvis);
    assert_eq!(new.say("PING"), Value::Simple("PONG".into()));
}

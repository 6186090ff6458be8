use super::*;
use crate::settings::{Rate, RoomMode};

const NOW: u64 = 1_800_000_000;

fn settings() -> WaitingRoom {
    WaitingRoom {
        mode: RoomMode::On,
        visitors_max: 2,
        admit: Rate { amount: 60, each: Duration::from_secs(60) },
        ..WaitingRoom::default()
    }
}

/// A room without Redis whose clock stands, and the clock.
fn room(settings: &WaitingRoom) -> (Room, Clock) {
    let clock = Clock::manual();
    let signer = Arc::new(Signer::new(b"a secret of the fleet"));
    (Room::new(settings, signer, None, clock.clone()), clock)
}

async fn tick(room: &Room, clock: &Clock, times: usize) {
    for _ in 0..times {
        clock.advance(TICK);
        room.tick(false, 1).await;
    }
}

/// What a browser sends that was given this.
fn brought(set_cookie: &str) -> Fields {
    [("Cookie", set_cookie.split(';').next().unwrap_or_default())].into()
}

fn waits(answer: Answer) -> Standing {
    match answer {
        Answer::Wait(standing) => standing,
        Answer::Enter { .. } => panic!("it is full"),
    }
}

fn enters(answer: Answer) -> String {
    match answer {
        Answer::Enter { cookie } => cookie,
        Answer::Wait(standing) => panic!("{standing:?}"),
    }
}

async fn comes(room: &Room, cookie: &str) -> Answer {
    match room.judge(&brought(cookie), room.now_unix()) {
        Holds::Place(place) => room.ask(Some(place)).await,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn visitors_wait_until_it_is_their_turn() {
    let (room, clock) = room(&settings());
    assert!(room.is_on());
    let first = waits(room.ask(None).await);
    let second = waits(room.ask(None).await);
    assert_eq!((first.ahead, first.wait), (Some(0), None));
    assert_eq!(second.ahead, Some(1));
    let (first, second) = (first.cookie.expect("new"), second.cookie.expect("new"));
    assert_eq!(waits(comes(&room, &second).await).cookie, None, "the place is kept");
    tick(&room, &clock, 3).await;
    assert!(enters(comes(&room, &first).await).starts_with("parvis_admitted="));
    assert_eq!(waits(comes(&room, &second).await).ahead, Some(0));
    tick(&room, &clock, 2).await;
    enters(comes(&room, &second).await);
    let status = room.status();
    assert_eq!((status.inside, status.waiting, status.causes), (2, 0, vec!["waiting_room.mode"]));
    let third = waits(room.ask(None).await).cookie.expect("new");
    tick(&room, &clock, 20).await;
    waits(comes(&room, &third).await);
    assert_eq!(room.figures(), Figures { drawn: 3, admitted: 2, looked: 3, full: 0, alone: 0 });
}

#[tokio::test]
async fn who_was_admitted_goes_on_and_a_way_in_ends() {
    let (room, clock) = room(&settings());
    tick(&room, &clock, 3).await;
    let cookie = enters(room.ask(None).await);
    let Holds::Admitted { renew: Some(renewed) } = room.judge(&brought(&cookie), room.now_unix())
    else {
        panic!("the first request that brings the cookie proves that it does")
    };
    let now = room.now_unix();
    let fields = brought(&renewed);
    assert_eq!(room.judge(&fields, now), Holds::Admitted { renew: None });
    assert!(matches!(room.judge(&fields, now + 200), Holds::Admitted { renew: Some(_) }));
    assert_eq!(room.judge(&fields, now + 601), Holds::Nothing);
    assert_eq!(room.judge(&fields, now - 62), Holds::Nothing, "from the future");
    // Who never came back with the first cookie has no more than a place by then.
    assert!(matches!(room.judge(&brought(&cookie), now + 60), Holds::Place(_)));
    assert_eq!(room.judge(&brought(&cookie), now + 601), Holds::Nothing);
    assert_eq!(room.judge(&Fields::new(), NOW), Holds::Nothing);
}

#[tokio::test]
async fn a_place_inside_outlives_the_way_in() {
    let (room, clock) = room(&settings());
    tick(&room, &clock, 3).await;
    let first = enters(room.ask(None).await);
    room.judge(&brought(&first), room.now_unix());
    tick(&room, &clock, 1).await;
    clock.advance(Duration::from_secs(599));
    tick(&room, &clock, 1).await;
    assert_eq!(room.status().inside, 1);
    clock.advance(Duration::from_secs(10));
    tick(&room, &clock, 1).await;
    assert_eq!(room.status().inside, 0);
}

#[tokio::test]
async fn a_ticket_of_another_line_gets_a_new_one() {
    let (before, _) = room(&settings());
    let (room, clock) = room(&settings());
    let old = waits(before.ask(None).await).cookie.expect("new");
    let new = waits(comes(&room, &old).await).cookie.expect("a new place");
    assert_ne!(old, new);
    tick(&room, &clock, 3).await;
    enters(comes(&room, &new).await);
}

#[tokio::test]
async fn settings_change_while_visitors_wait() {
    let (room, clock) = room(&settings());
    let cookie = waits(room.ask(None).await).cookie.expect("new");
    room.reload(&WaitingRoom { mode: RoomMode::Off, ..settings() });
    assert!(!room.is_on());
    tick(&room, &clock, 4).await;
    waits(comes(&room, &cookie).await);
    room.reload(&WaitingRoom { visitors_max: 0, ..settings() });
    tick(&room, &clock, 1).await;
    enters(comes(&room, &cookie).await);
}

#[tokio::test]
async fn a_command_counts_before_the_settings() {
    let (room, clock) = room(&settings());
    room.switch(Some(false)).await;
    tick(&room, &clock, 1).await;
    assert!(!room.is_on());
    assert_eq!(room.by_hand(), Some(false));
    room.switch(None).await;
    assert!(room.is_on());
    room.reload(&WaitingRoom::default());
    assert!(!room.is_on());
    room.switch(Some(true)).await;
    assert_eq!(room.status().causes, ["command"]);
}

#[tokio::test]
async fn it_goes_on_by_load_and_off_when_it_is_calm_and_nobody_waits() {
    let (room, clock) = room(&WaitingRoom { mode: RoomMode::Auto, ..settings() });
    assert!(!room.is_on());
    for _ in 0..61 {
        clock.advance(TICK);
        room.tick(true, 1).await;
    }
    assert_eq!(room.status().causes, ["load"]);
    let cookie = waits(room.ask(None).await).cookie.expect("new");
    for _ in 0..20 {
        clock.advance(TICK);
        room.tick(true, 1).await;
    }
    waits(comes(&room, &cookie).await);
    tick(&room, &clock, 6).await;
    enters(comes(&room, &cookie).await);
    tick(&room, &clock, 300).await;
    assert!(!room.is_on());
}

#[tokio::test]
async fn a_full_line_gives_no_place() {
    let (room, clock) = room(&WaitingRoom { waiting_max: 1, ..settings() });
    waits(room.ask(None).await);
    tick(&room, &clock, 1).await;
    let full = waits(room.ask(None).await);
    assert_eq!((full.cookie, full.ahead), (None, Some(1)));
    assert_eq!(room.figures().full, 1);
    room.clear().await;
    assert!(waits(room.ask(None).await).cookie.is_some());
}

#[tokio::test]
async fn a_cleared_line_keeps_who_is_inside_or_was_called() {
    let (room, clock) = room(&settings());
    let mut places = Vec::new();
    for _ in 0..4 {
        places.push(waits(room.ask(None).await).cookie.expect("new"));
    }
    tick(&room, &clock, 6).await;
    let inside = enters(comes(&room, &places[0]).await);
    room.clear().await;
    assert_eq!(room.status().inside, 2);
    let anew = waits(comes(&room, &places[3]).await).cookie.expect("a new place");
    tick(&room, &clock, 20).await;
    waits(comes(&room, &anew).await);
    assert!(matches!(room.judge(&brought(&inside), room.now_unix()), Holds::Admitted { .. }));
    enters(comes(&room, &places[1]).await);
    assert_eq!(room.status().inside, 2, "nobody else came in");
}

//! Tickets over time, restarts and nodes.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// So many epochs after the beginning of 2025.
fn at(epochs: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + EPOCH * u32::try_from(UNSET + epochs).unwrap()
}

fn opens(tickets: &Tickets, ticket: &[u8]) -> bool {
    tickets.decrypt(ticket).as_deref() == Some(b"state")
}

#[test]
fn a_ticket_lives_for_the_rest_of_its_epoch_and_one_more() {
    let tickets = Tickets::random(at(10)).unwrap();
    let ticket = tickets.encrypt(b"state").unwrap();
    assert!(opens(&tickets, &ticket));
    tickets.rotate(at(11)).unwrap();
    assert!(opens(&tickets, &ticket));
    assert_ne!(tickets.encrypt(b"state").unwrap()[..NAME_LEN], ticket[..NAME_LEN]);
    tickets.rotate(at(12)).unwrap();
    assert!(!opens(&tickets, &ticket));
}

#[test]
fn nodes_and_restarts_with_one_seed_take_each_others_tickets() {
    let dir = tempfile::tempdir().unwrap();
    let first = Tickets::open(dir.path(), at(10)).unwrap();
    let file = dir.path().join(FILE);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let ticket = first.encrypt(b"state").unwrap();
    assert!(opens(&Tickets::open(dir.path(), at(10)).unwrap(), &ticket), "after a restart");
    // A clock that is ahead, and one that is behind.
    let ahead = Tickets::open(dir.path(), at(11)).unwrap();
    assert!(opens(&ahead, &ticket));
    assert!(opens(&first, &ahead.encrypt(b"state").unwrap()));
    let back = Tickets::open(dir.path(), at(3)).unwrap();
    assert!(opens(&back, &ahead.encrypt(b"state").unwrap()), "never backwards");
    assert!(!opens(&Tickets::random(at(10)).unwrap(), &ticket), "another seed");
}

#[test]
fn a_seed_does_not_tell_the_one_before() {
    let chain = Chain { epoch: 5, seed: [7; 32] };
    let next = chain.next();
    assert_eq!(Chain::parse(&next.text()), Some(next.clone()));
    assert_ne!(next.seed, chain.seed);
    assert!(!next.text().contains(&"07".repeat(32)));
}

#[test]
fn what_is_no_seed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for text in [
        "",
        "1",
        "1 00",
        &format!("x {}", "00".repeat(32)),
        &format!("1 {}", "zz".repeat(32)),
        &format!("{} {}", u64::MAX, "00".repeat(32)),
        &format!("{} {}", LAST + 1, "00".repeat(32)),
    ] {
        fs::write(dir.path().join(FILE), text).unwrap();
        let error = Tickets::open(dir.path(), at(1)).expect_err(text).to_string();
        assert!(error.contains("is no ticket seed"), "{error}");
    }
}

#[test]
fn forged_tickets_are_none() {
    let tickets = Tickets::random(at(10)).unwrap();
    let ticket = tickets.encrypt(b"state").unwrap();
    for length in 0..ticket.len() {
        assert_eq!(tickets.decrypt(&ticket[..length]), None, "{length} bytes");
    }
    for place in 0..ticket.len() {
        let mut forged = ticket.clone();
        forged[place] ^= 1;
        assert_eq!(tickets.decrypt(&forged), None, "byte {place}");
    }
}

#[test]
fn a_seed_of_a_time_far_ahead_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(FILE);
    for found in [UNSET + 10 + AHEAD + 1, LAST] {
        fs::write(&file, format!("{found} {}", "07".repeat(32))).unwrap();
        let tickets = Tickets::open(dir.path(), at(10)).unwrap();
        assert!(!fs::read_to_string(&file).unwrap().contains(&"07".repeat(32)), "{found}");
        // And it goes on from here.
        let ticket = tickets.encrypt(b"state").unwrap();
        tickets.rotate(at(12)).unwrap();
        assert!(!opens(&tickets, &ticket));
    }
    // The clock is put right under a running daemon.
    let tickets = Tickets::open(dir.path(), at(500)).unwrap();
    let ticket = tickets.encrypt(b"state").unwrap();
    tickets.rotate(at(490)).unwrap();
    assert!(opens(&tickets, &ticket), "somewhat ahead");
    tickets.rotate(at(12)).unwrap();
    assert!(!opens(&tickets, &ticket));
}

#[test]
fn a_clock_that_is_not_set_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ticket = Tickets::open(dir.path(), at(10)).unwrap().encrypt(b"state").unwrap();
    let file = dir.path().join(FILE);
    let before = fs::read_to_string(&file).unwrap();
    let tickets = Tickets::open(dir.path(), SystemTime::UNIX_EPOCH + Duration::from_mins(1));
    let tickets = tickets.unwrap();
    assert!(opens(&tickets, &ticket));
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
    tickets.rotate(at(10)).unwrap();
    assert!(opens(&tickets, &ticket), "once it is set");
}

#[test]
fn keys_that_could_not_be_saved_are_saved_later() {
    let dir = tempfile::tempdir().unwrap();
    let tickets = Tickets::open(dir.path(), at(10)).unwrap();
    let file = dir.path().join(FILE);
    let before = fs::read_to_string(&file).unwrap();
    // In the way of the new file.
    let obstacle = file.with_extension("new");
    fs::create_dir(&obstacle).unwrap();
    let error = tickets.rotate(at(12)).unwrap_err().to_string();
    assert!(error.contains("cannot be written"), "{error}");
    let ticket = tickets.encrypt(b"state").unwrap();
    tickets.rotate(at(12)).unwrap_err();
    fs::remove_dir(&obstacle).unwrap();
    tickets.rotate(at(12)).unwrap();
    assert_ne!(fs::read_to_string(&file).unwrap(), before);
    assert!(opens(&Tickets::open(dir.path(), at(12)).unwrap(), &ticket), "the same keys");
}

//! Known days on which clocks are changed, and what is done on them.

use everpulse_protocol::Timestamp;
use everpulse_schedule::{Rfc3339, Spec};

/// The times of a specification between two instants, as clocks in UTC show them.
fn between(spec: &Spec, from: &str, to: &str) -> Vec<String> {
    let at = |text: &str| text.parse::<Rfc3339>().expect("a time").0;
    let times = spec.times().expect("it can be used");
    let mut after = Timestamp(at(from).0 - 1);
    let mut all = Vec::new();
    while let Some(next) = times.next_after(after).filter(|next| *next < at(to)) {
        all.push(Rfc3339(next).to_string());
        after = next;
    }
    all
}

#[track_caller]
fn check(zone: &str, cron: &str, (from, to): (&str, &str), expected: &[&str]) {
    let found = between(&Spec::new().cron(cron).time_zone(zone), from, to);
    assert_eq!(found, expected, "{cron} in {zone}");
}

/// Vienna's clocks go from 02:00 to 03:00 on 29 March 2026, which is 01:00 in UTC.
const SPRING: (&str, &str) = ("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z");
/// And from 03:00 to 02:00 on 25 October 2026, at 01:00 in UTC.
const AUTUMN: (&str, &str) = ("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z");

#[test]
fn a_named_time_in_the_gap_is_done_at_its_end() {
    check("Europe/Vienna", "30 2 * * *", SPRING, &["2026-03-29T01:00:00Z"]);
    // The night before and after it, as always.
    let days = ("2026-03-28T00:00:00Z", "2026-03-31T00:00:00Z");
    check(
        "Europe/Vienna",
        "30 2 * * *",
        days,
        &["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
    );
}

#[test]
fn what_falls_on_one_instant_is_done_once() {
    check("Europe/Vienna", "*/15 2 * * *", SPRING, &["2026-03-29T01:00:00Z"]);
    check("Europe/Vienna", "0 2,3,4 * * *", SPRING, &["2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"]);
    let twice = Spec::new().cron("30 2 * * *").cron("0 3 * * *").time_zone("Europe/Vienna");
    assert_eq!(between(&twice, SPRING.0, SPRING.1), ["2026-03-29T01:00:00Z"]);
}

#[test]
fn a_named_time_in_the_fold_is_done_at_the_first() {
    check("Europe/Vienna", "30 2 * * *", AUTUMN, &["2026-10-25T00:30:00Z"]);
    check(
        "Europe/Vienna",
        "0,30 1-3 * * *",
        AUTUMN,
        &[
            "2026-10-24T23:00:00Z",
            "2026-10-24T23:30:00Z",
            "2026-10-25T00:00:00Z",
            "2026-10-25T00:30:00Z",
            "2026-10-25T02:00:00Z",
            "2026-10-25T02:30:00Z",
        ],
    );
}

#[test]
fn what_names_no_hours_goes_on_hour_by_hour() {
    let spring = between(&Spec::new().cron("30 * * * *").time_zone("Europe/Vienna"), SPRING.0, SPRING.1);
    assert_eq!(spring.len(), 23);
    let autumn = between(&Spec::new().cron("30 * * * *").time_zone("Europe/Vienna"), AUTUMN.0, AUTUMN.1);
    assert_eq!(autumn.len(), 25);
    check(
        "Europe/Vienna",
        "0 */2 * * *",
        ("2026-03-28T23:00:00Z", "2026-03-29T06:00:00Z"),
        &[
            "2026-03-28T23:00:00Z",
            // 02:00 is not there.
            "2026-03-29T02:00:00Z",
            "2026-03-29T04:00:00Z",
        ],
    );
    check(
        "Europe/Vienna",
        "0 */2 * * *",
        ("2026-10-24T22:00:00Z", "2026-10-25T06:00:00Z"),
        &[
            "2026-10-24T22:00:00Z",
            "2026-10-25T00:00:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T03:00:00Z",
            "2026-10-25T05:00:00Z",
        ],
    );
}

#[test]
fn zones_with_changes_of_their_own() {
    // New York: 8 March 2026, 02:00 to 03:00 (07:00 UTC); 1 November, 02:00 to 01:00 (06:00 UTC).
    let march = ("2026-03-07T12:00:00Z", "2026-03-09T12:00:00Z");
    check("America/New_York", "15 2 * * *", march, &["2026-03-08T07:00:00Z", "2026-03-09T06:15:00Z"]);
    let november = ("2026-10-31T12:00:00Z", "2026-11-02T12:00:00Z");
    check("America/New_York", "15 1 * * *", november, &["2026-11-01T05:15:00Z", "2026-11-02T06:15:00Z"]);
    // Lord Howe Island: half an hour, on 5 April 2026 from 02:00 to 01:30 (15:00 UTC of the 4th), in October to 02:30.
    let april = ("2026-04-04T12:00:00Z", "2026-04-04T18:00:00Z");
    check("Australia/Lord_Howe", "45 1 * * *", april, &["2026-04-04T14:45:00Z"]);
    check(
        "Australia/Lord_Howe",
        "45 * * * *",
        ("2026-04-04T14:00:00Z", "2026-04-04T16:30:00Z"),
        &["2026-04-04T14:45:00Z", "2026-04-04T15:15:00Z", "2026-04-04T16:15:00Z"],
    );
    let october = ("2026-10-03T12:00:00Z", "2026-10-03T18:00:00Z");
    check("Australia/Lord_Howe", "15 2 * * *", october, &["2026-10-03T15:30:00Z"]);
    // Beirut has no midnight on 29 March 2026.
    let beirut = ("2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z");
    check("Asia/Beirut", "0 0 * * *", beirut, &["2026-03-28T22:00:00Z", "2026-03-29T21:00:00Z"]);
    // Samoa had no 30 December 2011: a day's work is done when the next one begins, once.
    let samoa = ("2011-12-29T10:00:00Z", "2011-12-31T20:00:00Z");
    check(
        "Pacific/Apia",
        "0 8 * * *",
        samoa,
        &["2011-12-29T18:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T18:00:00Z", "2011-12-31T18:00:00Z"],
    );
    check(
        "Pacific/Apia",
        "0 */8 * * *",
        samoa,
        &[
            "2011-12-29T10:00:00Z",
            "2011-12-29T18:00:00Z",
            "2011-12-30T02:00:00Z",
            "2011-12-30T10:00:00Z",
            "2011-12-30T18:00:00Z",
            "2011-12-31T02:00:00Z",
            "2011-12-31T10:00:00Z",
            "2011-12-31T18:00:00Z",
        ],
    );
}

#[test]
fn a_year_of_nights_has_365_of_them() {
    for zone in ["Europe/Vienna", "America/New_York", "Australia/Lord_Howe", "America/Havana", "Africa/Cairo", "UTC"] {
        for cron in ["0 0 * * *", "30 1 * * *", "30 2 * * *", "15 2 * * *", "0 3 * * *"] {
            let nights =
                between(&Spec::new().cron(cron).time_zone(zone), "2026-01-02T00:00:00Z", "2027-01-02T00:00:00Z");
            assert_eq!(nights.len(), 365, "{cron} in {zone}");
        }
    }
}

#[test]
fn days_by_the_calendar() {
    let spec = |cron: &str| Spec::new().cron(cron);
    let year = ("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
    let days = |cron: &str| -> Vec<String> {
        between(&spec(cron), year.0, year.1).iter().map(|time| time[5..10].to_owned()).collect()
    };
    assert_eq!(
        days("0 0 L * *"),
        "01-31 02-28 03-31 04-30 05-31 06-30 07-31 08-31 09-30 10-31 11-30 12-31".split(' ').collect::<Vec<_>>()
    );
    // The second Tuesdays, and the last Fridays.
    assert_eq!(days("0 0 * * TUE#2")[..4], ["01-13", "02-10", "03-10", "04-14"]);
    assert_eq!(days("0 0 * * FRI#L")[..4], ["01-30", "02-27", "03-27", "04-24"]);
    assert_eq!(days("0 0 * * 5L"), days("0 0 * * FRIL"));
    // The weekday nearest the 15th: a Sunday in February.
    assert_eq!(days("0 0 15W * *")[..3], ["01-15", "02-16", "03-16"]);
    // A day of the month or of the week, and with `+` both.
    assert_eq!(days("0 0 13 * FRI").len(), 52 + 12 - 3);
    assert_eq!(days("0 0 13 * +FRI"), ["02-13", "03-13", "11-13"]);
    assert_eq!(days("0 0 0 29 2 * *"), Vec::<String>::new());
    assert_eq!(between(&spec("0 0 29 2 *"), year.0, "2040-01-01T00:00:00Z").len(), 3);
    assert_eq!(between(&spec("30 59 23 31 12 * 2027"), year.0, "2040-01-01T00:00:00Z"), ["2027-12-31T23:59:30Z"]);
}

#[test]
fn what_has_an_end_ends() {
    let times = Spec::new().cron("0 0 0 1 1 * 2027").times().expect("it can be used");
    let first = times.next_after(Timestamp(0)).expect("it comes once");
    assert_eq!(Rfc3339(first).to_string(), "2027-01-01T00:00:00Z");
    assert_eq!(times.next_after(first), None);
    assert_eq!(Spec::new().cron("@daily").times().expect("times").next_after(Timestamp(u64::MAX)), None);
}

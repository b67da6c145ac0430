//! What holds of all times, whatever the specification is; and what of a specification cannot be used.

use std::time::Duration;

use everpulse_protocol::Timestamp;
use everpulse_schedule::{InvalidSpec, Rfc3339, Spec, Times};
use proptest::prelude::*;

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

fn at(text: &str) -> Timestamp {
    text.parse::<Rfc3339>().expect("a time").0
}

fn times(spec: &Spec) -> Times {
    spec.times().expect("it can be used")
}

fn all(times: &Times, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
    let first = times.next_after(Timestamp(from.0.saturating_sub(1)));
    std::iter::successors(first, |at| times.next_after(*at)).take_while(|at| *at < to).collect()
}

#[test]
fn intervals_are_counted_from_the_beginning_of_1970() {
    let spec = Spec::new().every_offset(Duration::from_secs(6 * 3_600), Duration::from_secs(600));
    let found = all(&times(&spec), at("2026-03-28T23:00:00Z"), at("2026-03-29T13:00:00Z"));
    assert_eq!(found, [at("2026-03-29T00:10:00Z"), at("2026-03-29T06:10:00Z"), at("2026-03-29T12:10:00Z")]);
    let late = Spec::new().every_offset(Duration::from_secs(100), Duration::from_secs(99));
    assert_eq!(times(&late).next_after(Timestamp(5)), Some(Timestamp(99_000)));
}

#[test]
fn several_crons_and_intervals_are_one_row_of_times() {
    let spec = Spec::new().cron("0 8 * * *").cron("0 8,20 * * *").every(Duration::from_secs(12 * 3_600));
    let found = all(&times(&spec), at("2026-01-01T00:00:00Z"), at("2026-01-02T00:00:00Z"));
    let hours: Vec<u64> = found.iter().map(|time| time.0 % DAY / HOUR).collect();
    assert_eq!(hours, [0, 8, 12, 20]);
}

#[test]
fn bounds_let_in_the_first_and_not_the_last() {
    let spec = Spec::new().cron("@hourly").from(at("2026-01-01T03:00:00Z")).until(at("2026-01-01T05:00:00Z"));
    let found = all(&times(&spec), Timestamp(0), Timestamp(u64::MAX));
    assert_eq!(found, [at("2026-01-01T03:00:00Z"), at("2026-01-01T04:00:00Z")]);
}

#[test]
fn exceptions_are_read_by_local_clocks() {
    let spec = Spec::new().every(Duration::from_secs(1)).except("* * 24-26 12 *").time_zone("Europe/Vienna");
    let times = times(&spec);
    assert_eq!(times.next_after(at("2026-12-23T22:59:58Z")), Some(at("2026-12-23T22:59:59Z")));
    assert_eq!(times.next_after(at("2026-12-23T22:59:59Z")), Some(at("2026-12-26T23:00:00Z")));
    // A day on which clocks are changed is excluded from its beginning to its end.
    let march = Spec::new().cron("0 * * * *").except("* * 29 3 *").time_zone("Europe/Vienna");
    let found = all(&self::times(&march), at("2026-03-28T22:00:00Z"), at("2026-03-29T23:00:00Z"));
    assert_eq!(found, [at("2026-03-28T22:00:00Z"), at("2026-03-29T22:00:00Z")]);
    // Of six fields, to the second.
    let spec = Spec::new().every(Duration::from_secs(20)).except("20 * * * * *");
    let found = all(&self::times(&spec), at("2026-01-01T00:00:00Z"), at("2026-01-01T00:01:01Z"));
    assert_eq!(found, [at("2026-01-01T00:00:00Z"), at("2026-01-01T00:00:40Z"), at("2026-01-01T00:01:00Z")]);
}

#[test]
fn what_cannot_be_used_says_why() {
    let check = |spec: Spec, expected: &str| {
        let error = spec.times().expect_err("it cannot be used").to_string();
        assert_eq!(error, expected);
    };
    check(Spec::new(), "a schedule has no times: give it a cron or an interval");
    check(
        Spec::new().every(Duration::from_millis(999)),
        "an interval of 999 ms is too short: a second is the shortest",
    );
    check(
        Spec::new().every_offset(Duration::from_secs(5), Duration::from_secs(5)),
        "an interval's offset (5000 ms) is not shorter than the interval (5000 ms)",
    );
    check(
        Spec::new().cron("@daily").from(at("2026-03-01T00:00:00Z")).until(at("2026-03-01T00:00:00Z")),
        "it ends (2026-03-01T00:00:00Z) before it begins (2026-03-01T00:00:00Z)",
    );
    check(Spec::new().cron("0 8 * * *").except("* * * * *"), "it excludes all of its times");
    let error = Spec::new().cron("@daily").except("* 24 * * *").times().expect_err("no such hour");
    assert!(matches!(error, InvalidSpec::Field(_)), "{error}");
}

#[test]
fn a_survey_counts_what_is_due() {
    let spec = Spec::new().cron("0 * * * *");
    let times = times(&spec);
    let (from, to) = (at("2026-01-01T00:00:00Z"), at("2026-01-01T05:00:00Z"));
    let survey = times.survey("hourly", from, to, 100);
    let ends = (survey.first.map(|time| time.at), survey.last.map(|time| time.at));
    assert_eq!((survey.count, survey.more), (5, false));
    assert_eq!(ends, (Some(at("2026-01-01T01:00:00Z")), Some(to)));
    let survey = times.survey("hourly", from, to, 5);
    assert!(!survey.more, "there are no more than five");
    let survey = times.survey("hourly", from, to, 3);
    assert_eq!((survey.count, survey.more), (3, true));
    assert_eq!(survey.last.map(|time| time.at), Some(at("2026-01-01T03:00:00Z")));
}

fn zones() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "UTC",
        "Europe/Vienna",
        "America/New_York",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "America/Havana",
        "Asia/Kathmandu",
        "Africa/Casablanca",
        "Europe/Dublin",
    ])
}

fn crons() -> impl Strategy<Value = String> {
    let minute =
        prop_oneof![Just("*/7".to_owned()), (0..60_u8).prop_map(|minute| minute.to_string()), Just("0,30".to_owned())];
    let hour = prop_oneof![
        Just("*".to_owned()),
        Just("*/3".to_owned()),
        (0..24_u8).prop_map(|hour| hour.to_string()),
        Just("1-3".to_owned()),
        Just("0,2,23".to_owned()),
    ];
    let day = prop_oneof![Just("* * *"), Just("* * SUN"), Just("L * *"), Just("1,29 * *"), Just("* 3,10 *")];
    (minute, hour, day).prop_map(|(minute, hour, day)| format!("{minute} {hour} {day}"))
}

fn specs() -> impl Strategy<Value = Spec> {
    let intervals = prop::collection::vec((60_u64..200_000, 0_u64..1_000), 0..2);
    let exceptions = prop::collection::vec(prop::sample::select(vec!["* * * * SUN", "* 2 * * *", "0 * * * *"]), 0..2);
    (prop::collection::vec(crons(), 1..3), intervals, exceptions, zones(), 0_u64..10 * HOUR).prop_map(
        |(crons, intervals, exceptions, zone, jitter)| {
            let spec = Spec::new().time_zone(zone).jitter(Duration::from_millis(jitter));
            let spec = crons.into_iter().fold(spec, Spec::cron);
            let spec = intervals.into_iter().fold(spec, |spec, (every, offset)| {
                spec.every_offset(Duration::from_secs(every), Duration::from_secs(offset % every))
            });
            exceptions.into_iter().fold(spec, Spec::except)
        },
    )
}

/// Around the days on which clocks are changed most often.
fn instants() -> impl Strategy<Value = Timestamp> {
    let around = prop::sample::select(vec![
        "2026-03-29T01:00:00Z",
        "2026-10-25T01:00:00Z",
        "2026-03-08T07:00:00Z",
        "2026-11-01T06:00:00Z",
        "2026-04-04T15:00:00Z",
        "2026-10-03T15:30:00Z",
        "2011-12-30T10:00:00Z",
        "2038-01-19T03:14:07Z",
    ]);
    (around, 0..4 * DAY).prop_map(|(near, ms)| Timestamp(at(near).0 - 2 * DAY + ms))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// From wherever one looks, the next time is after it, and nobody who looks from between sees another one. That is what
    /// makes a row of times one row: none is passed over, none comes twice.
    #[test]
    fn times_go_on_and_are_the_same_from_everywhere(spec in specs(), from in instants(), share in 0_u64..1_000) {
        let Ok(times) = spec.times() else { return Ok(()) };
        let mut after = from;
        for _ in 0..50 {
            let Some(next) = times.next_after(after) else { break };
            prop_assert!(next > after);
            let between = Timestamp(after.0 + (next.0 - 1 - after.0) * share / 1_000);
            prop_assert_eq!(times.next_after(between), Some(next), "seen from {}", Rfc3339(between));
            prop_assert_eq!(times.next_after(Timestamp(next.0 - 1)), Some(next));
            after = next;
        }
    }

    /// A time is done not before it, within the jitter, and before the next one; again and again at the same.
    #[test]
    fn the_jitter_is_bounded_and_keeps_the_order(spec in specs(), from in instants(), name in "[a-z]{1,8}") {
        let Ok(times) = spec.times() else { return Ok(()) };
        let mut after = from;
        for _ in 0..20 {
            let Some(next) = times.time_after(&name, after) else { break };
            prop_assert!(next.at <= next.due && next.due.0 - next.at.0 <= spec.jitter_ms);
            prop_assert_eq!(times.due(&name, next.at), next.due);
            if let Some(following) = times.next_after(next.at) {
                prop_assert!(next.due < following);
            }
            after = next.at;
        }
    }

    /// What is counted is what is found one after another.
    #[test]
    fn a_survey_is_the_times_one_by_one(spec in specs(), from in instants(), length in 0..12 * HOUR) {
        let Ok(times) = spec.times() else { return Ok(()) };
        let to = Timestamp(from.0 + length);
        let mut found = Vec::new();
        let mut after = from;
        while let Some(time) = times.time_after("name", after).filter(|time| time.due <= to) {
            found.push(time);
            after = time.at;
        }
        let survey = times.survey("name", from, to, u64::MAX);
        prop_assert_eq!(survey.count, found.len() as u64);
        prop_assert_eq!((survey.first, survey.last), (found.first().copied(), found.last().copied()));
    }

    /// No text takes the reader down.
    #[test]
    fn any_text_is_a_cron_or_an_error(text in "[-*/,#LW@+?0-9A-Za-z é]{0,24}") {
        let _ = Spec::new().cron(text.clone()).except(text).times();
    }
}

/// By hand, second by second: the table of the module `cron` against a zone's offsets alone.
#[test]
fn hours_that_are_not_named_are_those_of_the_clock() {
    let spec = Spec::new().cron("*/20 * * * *").time_zone("Europe/Vienna");
    let times = times(&spec);
    for (from, to) in
        [("2026-03-28T20:00:00Z", "2026-03-29T06:00:00Z"), ("2026-10-24T20:00:00Z", "2026-10-25T06:00:00Z")]
    {
        // Offsets there are whole hours, so that what clocks show past the hour is what they show in UTC.
        let expected: Vec<_> =
            (at(from).0..at(to).0).step_by(1_000).filter(|ms| ms % 1_200_000 == 0).map(Timestamp).collect();
        assert_eq!(all(&times, at(from), at(to)), expected);
    }
}

//! Local time and instants. Where a local time does not exist or exists twice, both are said here, and decided by the caller.

use everpulse_protocol::Timestamp;
use jiff::ToSpan as _;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};

use crate::error::InvalidSpec;
use crate::rfc3339::instant;

/// A time zone by the rules that this release was built with.
#[derive(Debug, Clone)]
pub(crate) struct Zone(TimeZone);

impl Zone {
    pub(crate) fn named(name: &str) -> Result<Self, InvalidSpec> {
        // What comes with the program and nothing else: files of the machine would make times differ between workers.
        let zones = TimeZoneDatabase::bundled();
        zones
            .get(name)
            .map(Self)
            .map_err(|_| InvalidSpec::Zone { name: name.to_owned(), nearest: nearest(&zones, name) })
    }

    /// What clocks show at an instant; none after the year 9999.
    pub(crate) fn local(&self, at: Timestamp) -> Option<DateTime> {
        Some(self.0.to_datetime(instant(at)?))
    }

    /// The one instant at which what was meant for a local time is done: the first of two, and the end of the gap for what
    /// clocks pass over.
    pub(crate) fn first(&self, local: DateTime) -> Option<Timestamp> {
        let found = match self.0.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
                offset.to_timestamp(local).ok()?
            }
            AmbiguousOffset::Gap { before, after } => {
                // By the later offset it would have been before clocks were changed.
                let earlier = after.to_timestamp(local).ok()?;
                let mut changes = self.0.following(earlier);
                let change = changes.find(|change| change.offset() == after);
                match change {
                    Some(change) => change.timestamp(),
                    None => before.to_timestamp(local).ok()?,
                }
            }
        };
        timestamp(found)
    }

    /// The instant at which clocks that are not changed after `from` show a local time, and when they are changed next.
    pub(crate) fn unchanged(&self, from: Timestamp, local: DateTime) -> Option<(Timestamp, Option<Timestamp>)> {
        let from = instant(from)?;
        let at = self.0.to_offset(from).to_timestamp(local).ok()?;
        let change = self.0.following(from).next().and_then(|change| timestamp(change.timestamp()));
        Some((timestamp(at)?, change))
    }
}

fn timestamp(at: jiff::Timestamp) -> Option<Timestamp> {
    u64::try_from(at.as_millisecond()).ok().map(Timestamp)
}

/// The second before, for searches that begin after a time and are to find it as well.
pub(crate) fn second_before(local: DateTime) -> Option<DateTime> {
    local.checked_sub(1.second()).ok()
}

/// The zone whose name differs least, if that is little.
fn nearest(zones: &TimeZoneDatabase, name: &str) -> Option<String> {
    let plain = |name: &str| name.to_lowercase().replace(' ', "_");
    let wanted = plain(name);
    let city = |name: &str| name.rsplit('/').next().map(str::to_owned).unwrap_or_default();
    let distances = zones.available().filter_map(|zone| {
        let known = plain(zone.as_str());
        let (wanted_city, known_city) = (city(&wanted), city(&known));
        let apart = distance(&wanted, &known).min(distance(&wanted_city, &known_city) + 1);
        // Of short names much is alike by chance.
        let alike = apart <= 1 || apart * 3 <= wanted_city.len().min(known_city.len());
        alike.then(|| (apart, zone.as_str().to_owned()))
    });
    distances.min().map(|(_, name)| name)
}

/// How many characters are to be changed, put in or left out to make one word the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut before = i;
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let changed = before + usize::from(a != *b);
            before = row[j + 1];
            row[j + 1] = changed.min(before + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_zone_says_which_may_be_meant() {
        let said = |name| Zone::named(name).expect_err("it is unknown").to_string();
        assert_eq!(said("Europe/Viena"), "time zone `Europe/Viena` is not known; did you mean `Europe/Vienna`?");
        assert_eq!(said("new york"), "time zone `new york` is not known; did you mean `America/New_York`?");
        let named = "time zone `Middle-earth/Shire` is not known: names are those of the IANA database, such as \
                     `Europe/Vienna` or `UTC`";
        assert_eq!(said("Middle-earth/Shire"), named);
    }
}

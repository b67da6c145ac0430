//! One cron: read with an eye to whoever wrote it, and asked for its next instant in a zone.
//!
//! The calendar is the library's. What is done at the change of clocks is decided here, by the hour field:
//!
//! | hours | in the gap (02:30 does not exist) | in the fold (02:30 comes twice) |
//! |---|---|---|
//! | named (`2`, `1-5`, `2,14`) | once, at the end of the gap | once, at the first |
//! | all, by steps (`*`, `*/2`) | not at all | both times |
//!
//! What names its hours is meant once a day, and a day has no fewer reports for being short. What does not name them runs
//! by the clock hour after hour, and an hour that is not there has no work.

use croner::Cron as Pattern;
use croner::parser::CronParser;
use everpulse_protocol::Timestamp;
use jiff::civil::DateTime;

use crate::error::{FieldError, InvalidSpec};
use crate::zone::{Zone, second_before};

/// What a field is called, and what it takes.
const FIELDS: [(&str, &str); 7] = [
    ("second", "0-59, with `*`, `,`, `-` and `/`"),
    ("minute", "0-59, with `*`, `,`, `-` and `/`"),
    ("hour", "0-23, with `*`, `,`, `-` and `/`"),
    ("day of the month", "1-31, `L` for the last, `15W` for the weekday nearest the 15th, with `*`, `,`, `-` and `/`"),
    ("month", "1-12 or JAN-DEC, with `*`, `,`, `-` and `/`"),
    (
        "day of the week",
        "0-7 (0 and 7 are Sunday) or SUN-SAT, `FRI#2` for the second Friday, `FRI#L` for the last, with `*`, `,`, `-` and `/`",
    ),
    ("year", "1-4999, with `*`, `,`, `-` and `/`"),
];
const SECOND: usize = 0;
const MINUTE: usize = 1;
const HOUR: usize = 2;
const DAY: usize = 3;
const MONTH: usize = 4;
const WEEKDAY: usize = 5;

const NICKNAMES: [&str; 6] = ["@hourly", "@daily", "@weekly", "@monthly", "@yearly", "@annually"];
const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// A cron that can be asked.
#[derive(Debug, Clone)]
pub(crate) struct Cron {
    pattern: Pattern,
    /// It does not name its hours.
    every_hour: bool,
    /// Of how much time it says the same: a day, an hour, a minute or a second.
    grain: Grain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grain {
    Second,
    Minute,
    Hour,
    Day,
}

impl Cron {
    pub(crate) fn new(text: &str) -> Result<Self, InvalidSpec> {
        Self::read(text, "0")
    }

    /// For exceptions: one of five fields is about whole minutes.
    pub(crate) fn of_minutes(text: &str) -> Result<Self, InvalidSpec> {
        Self::read(text, "*")
    }

    fn read(text: &str, second: &str) -> Result<Self, InvalidSpec> {
        let words = words(text);
        let pattern = match words.first() {
            Some((_, word)) if word.starts_with('@') => {
                if words.len() != 1 || !NICKNAMES.iter().any(|name| name.eq_ignore_ascii_case(word)) {
                    return Err(InvalidSpec::Nickname { cron: text.to_owned(), word: (*word).to_owned() });
                }
                // The library says what it stands for.
                let meant = parse(word).map_err(|reason| InvalidSpec::Cron { cron: text.to_owned(), reason })?;
                read_fields(text, &self::words(meant.as_str()), second)?
            }
            _ => read_fields(text, &words, second)?,
        };
        let fields: Vec<&str> = pattern.as_str().split_whitespace().collect();
        let stars = |field: usize| fields.get(field).is_some_and(|field| *field == "*");
        let grain = match (stars(SECOND), stars(MINUTE), stars(HOUR)) {
            (true, true, true) => Grain::Day,
            (true, true, false) => Grain::Hour,
            (true, false, _) => Grain::Minute,
            (false, ..) => Grain::Second,
        };
        let every_hour = fields.get(HOUR).is_some_and(|hours| hours.starts_with('*'));
        let cron = Self { pattern, every_hour, grain };
        // The calendar repeats itself after 400 years, so what does not come in them never does.
        match cron.calendar(DateTime::constant(1970, 1, 1, 0, 0, 0, 0)) {
            Some(_) => Ok(cron),
            None => Err(InvalidSpec::Never { cron: text.to_owned() }),
        }
    }

    /// The next local time by the calendar alone, whether it exists in a zone or not.
    fn calendar(&self, after: DateTime) -> Option<DateTime> {
        // Its only failure for a pattern that was read is that the search came to the year 5000.
        self.pattern.find_next_occurrence(&after, false).ok()
    }

    /// The next instant after another one.
    pub(crate) fn next_after(&self, zone: &Zone, after: Timestamp) -> Option<Timestamp> {
        match self.every_hour {
            true => self.next_of_every_hour(zone, after),
            false => self.next_of_named_hours(zone, after),
        }
    }

    /// Each local time is one instant, and a later local time never an earlier one; so the first that is after is the next.
    fn next_of_named_hours(&self, zone: &Zone, after: Timestamp) -> Option<Timestamp> {
        let mut local = zone.local(after)?;
        loop {
            local = self.calendar(local)?;
            // In the second pass of a fold, and for what fell into one gap together, it is not after.
            if let Some(at) = zone.first(local)
                && at > after
            {
                return Some(at);
            }
        }
    }

    /// Between two changes clocks run as the calendar does; with each change the calendar is entered anew.
    fn next_of_every_hour(&self, zone: &Zone, after: Timestamp) -> Option<Timestamp> {
        let mut from = after;
        let mut local = zone.local(from)?;
        loop {
            let next = self.calendar(local)?;
            let (at, change) = zone.unchanged(from, next)?;
            match change {
                Some(change) if at >= change => {
                    from = change;
                    local = second_before(zone.local(from)?)?;
                }
                _ => return Some(at),
            }
        }
    }

    /// Whether the local time of an instant is one of its times; and if so, a local time up to which it says so too.
    pub(crate) fn covers(&self, local: DateTime) -> Option<DateTime> {
        if !self.pattern.is_time_matching(&local).unwrap_or(false) {
            return None;
        }
        let end = match self.grain {
            Grain::Day => local.date().at(23, 59, 59, 0),
            Grain::Hour => local.date().at(local.hour(), 59, 59, 0),
            Grain::Minute => local.date().at(local.hour(), local.minute(), 59, 0),
            Grain::Second => local,
        };
        Some(end)
    }
}

/// The words of a text, with where they begin.
fn words(text: &str) -> Vec<(usize, &str)> {
    let at = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
    text.split_whitespace().map(|word| (at(word), word)).collect()
}

fn read_fields(text: &str, words: &[(usize, &str)], second: &str) -> Result<Pattern, InvalidSpec> {
    if !(5..=7).contains(&words.len()) {
        return Err(InvalidSpec::FieldCount { cron: text.to_owned(), count: words.len() });
    }
    // Five fields begin with the minute.
    let skipped = usize::from(words.len() == 5);
    for (field, (at, word)) in words.iter().enumerate() {
        let field = field + skipped;
        if !is_field(field, word) {
            let (name, takes) = FIELDS[field];
            let text = (*word).to_owned();
            return Err(InvalidSpec::Field(FieldError {
                cron: text_of(words),
                at: at_of(words, *at),
                text,
                field: name,
                takes,
            }));
        }
    }
    let mut fields: Vec<&str> = words.iter().map(|(_, word)| *word).collect();
    if skipped == 1 {
        fields.insert(0, second);
    }
    parse(&fields.join(" ")).map_err(|reason| InvalidSpec::Cron { cron: text.to_owned(), reason })
}

/// The text with one space between its fields, as it is shown.
fn text_of(words: &[(usize, &str)]) -> String {
    words.iter().map(|(_, word)| *word).collect::<Vec<_>>().join(" ")
}

/// Where a word stands in that.
fn at_of(words: &[(usize, &str)], at: usize) -> usize {
    words.iter().take_while(|(other, _)| *other < at).map(|(_, word)| word.len() + 1).sum()
}

/// Whether a word can be that field, whatever the others are.
fn is_field(field: usize, word: &str) -> bool {
    if !letters_fit(field, word) {
        return false;
    }
    let mut fields = ["*"; 7];
    fields[field] = word;
    parse(&fields.join(" ")).is_ok()
}

/// The library takes names of months and weekdays wherever they stand, as numbers.
fn letters_fit(field: usize, word: &str) -> bool {
    let letters = word.split(|c: char| !c.is_alphabetic()).filter(|letters| !letters.is_empty());
    letters.into_iter().all(|letters| {
        let letters = letters.to_uppercase();
        match field {
            DAY => ["L", "W", "LW"].contains(&letters.as_str()),
            MONTH => MONTHS.contains(&letters.as_str()),
            // `FRIL` is the last Friday, as `5L` is.
            WEEKDAY => letters == "L" || WEEKDAYS.contains(&letters.strip_suffix('L').unwrap_or(&letters)),
            _ => false,
        }
    })
}

fn parse(pattern: &str) -> Result<Pattern, String> {
    CronParser::new().parse(pattern).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(cron: &str, expected: &str) {
        let error = Cron::new(cron).expect_err("it cannot be read").to_string();
        assert_eq!(error.trim_end(), expected);
    }

    #[test]
    fn a_bad_field_is_pointed_at() {
        check(
            "0  25 * * *",
            "cron `0 25 * * *`: `25` is no hour, which takes 0-23, with `*`, `,`, `-` and `/`\n    0 25 * * *\n      ^^",
        );
        check(
            "0 0 1 FEBR *",
            "cron `0 0 1 FEBR *`: `FEBR` is no month, which takes 1-12 or JAN-DEC, with `*`, `,`, `-` and `/`\n    \
             0 0 1 FEBR *\n          ^^^^",
        );
        // A month is not a minute, although the library would read it as one.
        check(
            "MAR 0 1 * *",
            "cron `MAR 0 1 * *`: `MAR` is no minute, which takes 0-59, with `*`, `,`, `-` and `/`\n    MAR 0 1 * *\n    ^^^",
        );
    }

    #[test]
    fn what_is_wrong_as_a_whole_is_said() {
        check(
            "0 2 * *",
            "cron `0 2 * *` has 4 fields: it takes 5 (minute, hour, day of the month, month, day of the week), 6 (with the \
             second before them), or 7 (with the year after them)",
        );
        check("@noon", "cron `@noon`: `@noon` is not known; there are @hourly, @daily, @weekly, @monthly and @yearly");
        check("0 0 30 2 *", "cron `0 0 30 2 *` never comes: no day has such a date");
        check(
            "",
            "cron `` has 0 fields: it takes 5 (minute, hour, day of the month, month, day of the week), 6 (with the second \
             before them), or 7 (with the year after them)",
        );
    }

    #[test]
    fn what_is_read_is_known_by_its_hours_and_its_grain() {
        let read = |cron| Cron::of_minutes(cron).map(|cron| (cron.every_hour, cron.grain)).expect("it can be read");
        assert_eq!(read("* * 24-26 12 *"), (true, Grain::Day));
        assert_eq!(read("* 8-17 * * MON-FRI"), (false, Grain::Hour));
        assert_eq!(read("*/5 */2 * * *"), (true, Grain::Minute));
        assert_eq!(read("30 0 2 * * * 2027"), (false, Grain::Second));
        assert_eq!(Cron::new("@daily").map(|cron| cron.every_hour), Ok(false));
        assert_eq!(Cron::new("@hourly").map(|cron| cron.every_hour), Ok(true));
    }
}

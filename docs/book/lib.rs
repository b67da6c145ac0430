//! The code of the book: every sample is compiled and run as a test of this crate, from the chapter itself.
//!
//! `mdbook serve docs/book` shows the book.

macro_rules! chapters {
    ($($chapter:literal $name:ident)*) => {
        $(
            #[cfg(doctest)]
            #[doc = include_str!(concat!("src/", $chapter, ".md"))]
            mod $name {}
        )*

        #[cfg(test)]
        const CHAPTERS: &[&str] = &[$($chapter),*];
    };
}

chapters! {
    "introduction" introduction
    "first-workflow" first_workflow
    "activities" activities
    "waiting" waiting
    "signals" signals
    "people" people
    "cancellation" cancellation
    "families" families
    "long-lives" long_lives
    "schedules" schedules
    "determinism" determinism
    "versions" versions
    "testing" testing
    "when-it-fails" when_it_fails
    "interceptors" interceptors
    "values" values
    "deploying" deploying
}

#[cfg(test)]
mod tests {
    use super::CHAPTERS;

    #[test]
    fn every_chapter_is_in_the_summary_and_tested() {
        let summary = include_str!("src/SUMMARY.md");
        let listed: Vec<&str> =
            summary.lines().filter_map(|line| line.split("](").nth(1)?.strip_suffix(".md)")).collect();
        assert_eq!(listed, CHAPTERS);
    }
}

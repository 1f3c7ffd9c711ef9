//! Floods: what is told again and again is told once a minute, with the number of times.
//!
//! A store that is away, or an object that is missing, fails thousands of reads; each of them is a
//! warning or an error of its own. Of those about the same thing the first is written. When a minute
//! is over, one line says how many more there were in it, until a minute passes without. Of those that one place of the program
//! tells about different things the first [`OF_ONE_SITE`] are written, and the others counted together. What
//! is less than a warning was asked for, and passes.
//!
//! What an event is about is in its fields: `about`, else `key`, else `path`, else all of them but numbers,
//! which differ each time.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

const PERIOD: Duration = Duration::from_mins(1);
/// Things that one place in the program tells about within a period.
const OF_ONE_SITE: usize = 32;
/// Things that are told apart within a period, of all places together.
const MOST: usize = 1024;
/// Bytes of the text by which a counted event is told from others.
const LONGEST: usize = 300;

/// The target of the lines that say how many events were not written.
const TARGET: &str = "attachfs::flood";

static TOLD: Mutex<Option<Told>> = Mutex::new(None);

fn told() -> MutexGuard<'static, Option<Told>> {
    // A panic here leaves numbers that are off by one at most.
    TOLD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The events of this period.
#[derive(Debug)]
struct Told {
    since: Instant,
    things: HashMap<u64, Counted>,
    sites: HashMap<u64, Site>,
}

#[derive(Debug, Default)]
struct Site {
    things: usize,
    others: Option<Counted>,
}

/// Events that were not written.
#[derive(Debug)]
struct Counted {
    level: Level,
    site: u64,
    text: String,
    times: u64,
}

/// What becomes of an event.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Write,
    /// The first in this period that is only counted, or one more.
    Count {
        first: bool,
    },
}

impl Told {
    fn new(since: Instant) -> Self {
        Self {
            since,
            things: HashMap::new(),
            sites: HashMap::new(),
        }
    }

    fn ask(&mut self, level: Level, said: &Said) -> Verdict {
        if let Some(counted) = self.things.get_mut(&said.thing) {
            counted.times += 1;
            let first = counted.times == 1;
            return Verdict::Count { first };
        }
        let full = self.things.len() >= MOST;
        // There are as many as there are places in the program that write to the log.
        let site = self.sites.entry(said.site).or_default();
        if full || site.things >= OF_ONE_SITE {
            let others = site.others.get_or_insert_with(|| Counted {
                level,
                site: said.site,
                text: format!("about others: {}", said.message),
                times: 0,
            });
            others.times += 1;
            let first = others.times == 1;
            return Verdict::Count { first };
        }
        site.things += 1;
        let counted = Counted {
            level,
            site: said.site,
            text: said.text(),
            times: 0,
        };
        self.things.insert(said.thing, counted);
        Verdict::Write
    }

    /// What was only counted, and what is still known in a period that begins now: that, without its
    /// number.
    fn end(self, now: Instant) -> (Vec<Counted>, Option<Self>) {
        let mut next = Self::new(now);
        let mut all = Vec::new();
        for (thing, counted) in self.things {
            if counted.times == 0 {
                continue;
            }
            next.sites.entry(counted.site).or_default().things += 1;
            next.things.insert(
                thing,
                Counted {
                    text: counted.text.clone(),
                    times: 0,
                    ..counted
                },
            );
            all.push(counted);
        }
        all.extend(self.sites.into_values().filter_map(|site| site.others));
        all.sort_by(|a, b| b.times.cmp(&a.times).then_with(|| a.text.cmp(&b.text)));
        let next = (!next.things.is_empty()).then_some(next);
        (all, next)
    }
}

/// Ends the period if it is over, and gives what was only counted in it.
fn end_period(told: &mut Option<Told>, now: Instant) -> Vec<Counted> {
    let is_over = |told: &mut Told| now.saturating_duration_since(told.since) >= PERIOD;
    let Some(over) = told.take_if(is_over) else {
        return Vec::new();
    };
    let (counted, next) = over.end(now);
    *told = next;
    counted
}

/// The layer that decides which events are written.
#[derive(Debug)]
pub(super) struct Floods;

impl<S: Subscriber> Layer<S> for Floods {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let level = *event.metadata().level();
        if level > Level::WARN || event.metadata().target() == TARGET {
            return true;
        }
        let said = Said::by(event);
        if said.is_reply_nobody_waits_for() {
            tracing::debug!("the kernel does not wait for this reply any more");
            return false;
        }
        let now = Instant::now();
        let mut told = told();
        let before = end_period(&mut told, now);
        let verdict = told.get_or_insert_with(|| Told::new(now)).ask(level, &said);
        drop(told);
        tell(before);
        if verdict == (Verdict::Count { first: true }) {
            tell_later();
        }
        verdict == Verdict::Write
    }
}

/// The thread that waits for the end of the period.
static WAITING: Mutex<Option<JoinHandle<()>>> = Mutex::new(None);

/// Says what was counted when the period is over, even if nothing is told after that.
fn tell_later() {
    let wait = || {
        std::thread::sleep(PERIOD);
        let counted = end_period(&mut told(), Instant::now());
        tell(counted);
    };
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    if waiting.as_ref().is_none_or(JoinHandle::is_finished) {
        let thread = std::thread::Builder::new().name("log".to_owned());
        // Without it the next event of the kind says it.
        *waiting = thread.spawn(wait).ok();
    }
}

/// Says what was counted, whether or not the period is over.
pub(super) fn tell_all() {
    let told = told().take();
    tell(told.map_or_else(Vec::new, |told| told.end(Instant::now()).0));
}

fn tell(counted: Vec<Counted>) {
    for Counted {
        level, text, times, ..
    } in counted
    {
        if level == Level::ERROR {
            tracing::error!(target: TARGET, "{times} more within a minute: {text}");
        } else {
            tracing::warn!(target: TARGET, "{times} more within a minute: {text}");
        }
    }
}

/// What an event says, and what it is about.
#[derive(Debug)]
struct Said {
    /// The place in the program.
    site: u64,
    /// That, and what it is about.
    thing: u64,
    about: Option<(Rank, String)>,
    all: DefaultHasher,
    message: String,
    /// Where a line comes from that a library wrote with the crate `log`.
    from: String,
}

/// Fields that say what an event is about; the first that is there counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    About,
    Key,
    Path,
}

impl Said {
    fn by(event: &Event<'_>) -> Self {
        let mut site = DefaultHasher::new();
        event.metadata().callsite().hash(&mut site);
        let site = site.finish();
        let mut said = Self::new(site);
        event.record(&mut said);
        said.settle();
        said
    }

    fn new(site: u64) -> Self {
        let mut all = DefaultHasher::new();
        site.hash(&mut all);
        Self {
            site,
            thing: 0,
            about: None,
            all,
            message: String::new(),
            from: String::new(),
        }
    }

    fn settle(&mut self) {
        self.thing = match &self.about {
            Some((_, about)) => {
                let mut thing = DefaultHasher::new();
                (self.site, about).hash(&mut thing);
                thing.finish()
            }
            None => self.all.finish(),
        };
    }

    fn text(&self) -> String {
        match &self.about {
            Some((_, about)) => format!("about {about}: {}", self.message),
            None => self.message.clone(),
        }
    }

    /// Whether the kernel took back the request that a reply is for: its caller was interrupted, or the mount
    /// went away. The FUSE library calls that an error.
    fn is_reply_nobody_waits_for(&self) -> bool {
        self.from == "fuser::reply"
            && self.message.starts_with("Failed to send FUSE reply: ")
            && self.message.ends_with("(os error 2)")
    }
}

impl Visit for Said {
    fn record_u64(&mut self, _: &Field, _: u64) {}

    fn record_i64(&mut self, _: &Field, _: i64) {}

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Short(String::new());
        // Ends early where the rest is too much.
        let _ = write!(text, "{value:?}");
        let Short(text) = text;
        (field.name(), &text).hash(&mut self.all);
        let rank = match field.name() {
            "message" => {
                self.message = text;
                return;
            }
            "log.target" => {
                self.from = text.trim_matches('"').to_owned();
                return;
            }
            "about" => Rank::About,
            "key" => Rank::Key,
            "path" => Rank::Path,
            _ => return,
        };
        if self.about.as_ref().is_none_or(|(known, _)| rank < *known) {
            self.about = Some((rank, text));
        }
    }
}

/// The beginning of a text.
struct Short(String);

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LONGEST.saturating_sub(self.0.len());
        let fits = text.floor_char_boundary(room);
        self.0.push_str(&text[..fits]);
        if fits < text.len() {
            return Err(fmt::Error);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(site: u64, about: &str) -> Said {
        let mut said = Said::new(site);
        said.message = "an object is missing".to_owned();
        said.about = Some((Rank::About, about.to_owned()));
        said.settle();
        said
    }

    /// How many of these are written, and what is said when the minute is over.
    fn written(all: impl IntoIterator<Item = Said>) -> (usize, Vec<(String, u64)>) {
        let begin = Instant::now();
        let mut told = Told::new(begin);
        let written = all
            .into_iter()
            .filter(|said| told.ask(Level::ERROR, said) == Verdict::Write)
            .count();
        let mut told = Some(told);
        assert!(end_period(&mut told, begin + PERIOD / 2).is_empty());
        let counted = end_period(&mut told, begin + PERIOD);
        assert!(end_period(&mut told, begin + 2 * PERIOD).is_empty());
        assert!(told.is_none());
        let counted = counted.into_iter().map(|of| (of.text, of.times));
        (written, counted.collect())
    }

    #[test]
    fn the_same_is_written_once_a_minute_and_then_counted() {
        let (written, counted) = written((0..1000).map(|i| said(1, ["a", "b"][i % 2])));
        assert_eq!(written, 2);
        let text = |of: &str| format!("about {of}: an object is missing");
        assert_eq!(counted, [(text("a"), 499), (text("b"), 499)]);
    }

    #[test]
    fn what_goes_on_is_one_line_a_minute() {
        let mut now = Instant::now();
        let mut told = Some(Told::new(now));
        let ask = |told: &mut Option<Told>, now| {
            told.get_or_insert_with(|| Told::new(now))
                .ask(Level::WARN, &said(1, "a"))
        };
        assert_eq!(ask(&mut told, now), Verdict::Write);
        for minute in 1..5 {
            for number in 0..minute {
                let first = number == 0;
                assert_eq!(ask(&mut told, now), Verdict::Count { first });
            }
            now += PERIOD;
            let counted = end_period(&mut told, now);
            assert_eq!(counted.len(), 1);
            assert_eq!(counted[0].times, minute);
        }
        // After a minute without it is told anew.
        now += PERIOD;
        assert!(end_period(&mut told, now).is_empty());
        assert_eq!(ask(&mut told, now), Verdict::Write);
    }

    #[test]
    fn what_was_told_once_is_not_counted() {
        assert_eq!(written([said(1, "a")]), (1, Vec::new()));
    }

    #[test]
    fn two_places_that_tell_of_the_same_thing_are_two() {
        assert_eq!(written([said(1, "a"), said(2, "a")]).0, 2);
    }

    #[test]
    fn many_things_of_one_place_are_counted_together_and_other_places_are_still_heard() {
        let many = (0..5000).map(|i| said(1, &i.to_string()));
        let (written, counted) = written(many.chain([said(2, "a")]));
        assert_eq!(written, OF_ONE_SITE + 1);
        let text = "about others: an object is missing".to_owned();
        assert_eq!(counted, [(text, 5000 - OF_ONE_SITE as u64)]);
    }

    #[test]
    fn no_more_than_a_bounded_number_of_things_is_remembered() {
        let mut told = Told::new(Instant::now());
        for site in 0..1000 {
            for thing in 0..10 {
                told.ask(Level::WARN, &said(site, &thing.to_string()));
            }
        }
        assert_eq!(told.things.len(), MOST);
    }

    #[test]
    fn only_a_reply_to_a_request_that_is_gone_is_expected() {
        let from = |from: &str, message: &str| {
            let mut said = Said::new(1);
            said.from = from.to_owned();
            said.message = message.to_owned();
            said.is_reply_nobody_waits_for()
        };
        let gone = "Failed to send FUSE reply: No such file or directory (os error 2)";
        let other = "Failed to send FUSE reply: Invalid argument (os error 22)";
        assert!(from("fuser::reply", gone));
        assert!(!from("fuser::reply", other));
        assert!(!from("elsewhere", gone));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let mut short = Short(String::new());
        let text = "ä".repeat(LONGEST);
        assert!(short.write_str(&text).is_err());
        assert!(short.0.len() <= LONGEST && text.starts_with(&short.0));
    }
}

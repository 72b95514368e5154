//! What honest agents do, odd as it may look; and what a hostile server does in their name.

use super::{
    Expect, Scenario, Story, What,
    story::{AWAY, DAY, HOME, HOUR, Habit, MINUTE, SECOND, STEADY, USUAL, at},
};

macro_rules! honest {
    ($($name:literal, $expect:ident, $about:literal, $tell:expr;)*) => {
        pub(super) const ALL: &[Scenario] = &[$(Scenario {
            name: $name, about: $about, expect: Expect::$expect, tell: $tell,
        },)*];
    };
}

honest! {
    "steady", Nothing, "the same by day and night, two weeks", || Story::usually(101, STEADY, 14).told();
    "day-and-night", Nothing, "busy by day, nearly silent by night", || Story::usually(102, USUAL, 14).told();
    "weekends-off", Nothing, "silent at weekends, and back on Monday", || {
        Story::usually(103, Habit { weekend: 0.0, ..USUAL }, 16).told()
    };
    "bursts", Nothing, "two hundred at once, now and then, as always", || {
        let mut story = Story::usually(104, USUAL, 10);
        for hour in 0..240 {
            if story.chance() < 0.4 {
                story.sends(USUAL, at(0, hour, 20), MINUTE, 200);
            }
        }
        story.told()
    };
    "restart", Nothing, "its session ends and another begins", || {
        let mut story = Story::usually(105, USUAL, 8);
        story.happens(at(8, 10, 0), What::Left(1));
        story.happens(at(8, 10, 0) + 5 * SECOND, What::Connected(2, HOME));
        story.session = 2;
        story.lives(USUAL, at(8, 10, 1), at(9, 0, 0));
        story.told()
    };
    "rolling-deploy", Nothing, "the new one begins elsewhere before the old one ends", || {
        let mut story = Story::usually(106, USUAL, 8);
        story.lives(USUAL, at(8, 0, 0), at(8, 10, 1));
        story.happens(at(8, 10, 0), What::Connected(2, AWAY));
        story.happens(at(8, 10, 1), What::Left(1));
        story.session = 2;
        story.lives(USUAL, at(8, 10, 0), at(9, 0, 0));
        story.told()
    };
    "deploy", Nothing, "a new version: half as much again, larger by three fifths, one new subject", || {
        let mut story = Story::usually(107, USUAL, 8);
        const WITH_NEW: &[&str] = &["notes.web", "notes.mail", "notes.chat", "notes.rooms"];
        let new = Habit { size: 1_600.0, subjects: WITH_NEW, ..USUAL };
        story.lives_as(new, at(8, 10, 0), at(12, 0, 0), |_| 1.5);
        story.told()
    };
    "nightly-batch", Nothing, "three thousand at two o'clock each night", || batch(108, 0);
    "late-batch", Nothing, "the same, and once an hour late", || batch(109, HOUR);
    "summer-time", Nothing, "everything an hour earlier from one day on", || {
        let mut story = Story::usually(110, USUAL, 8);
        let before = story.events.len();
        story.lives(USUAL, at(8, 0, 0), at(12, 0, 0));
        for event in story.events.iter_mut().skip(before) {
            event.time.0 -= HOUR;
            if let What::Sent(message) = &mut event.what {
                message.sealed.0 -= HOUR;
            }
        }
        story.told()
    };
    "holiday", Nothing, "a weekday as quiet as a Sunday", || {
        let habit = Habit { weekend: 0.05, ..USUAL };
        let mut story = Story::usually(111, habit, 9);
        story.lives_as(habit, at(9, 0, 0), at(10, 0, 0), |_| 0.05);
        story.lives(habit, at(10, 0, 0), at(11, 0, 0));
        story.told()
    };
    "two-weeks-off", Nothing, "nothing at all for two weeks, then as before", || {
        let mut story = Story::usually(112, USUAL, 9);
        story.lives(USUAL, at(23, 0, 0), at(24, 0, 0));
        story.told()
    };
    "retries-after-an-outage", Nothing, "an hour's work at once when the bus is back", || {
        let mut story = Story::usually(113, USUAL, 8);
        story.lives(USUAL, at(8, 0, 0), at(8, 10, 0));
        story.sends(USUAL, at(8, 11, 0), 2 * MINUTE, 120);
        story.lives(USUAL, at(8, 11, 2), at(9, 0, 0));
        story.told()
    };
    "growth", Nothing, "a twentieth more each day for three weeks", || {
        let mut story = Story::usually(114, STEADY, 8);
        #[expect(clippy::cast_precision_loss, reason = "some days")]
        let factor = |time: u64| 1.05_f64.powf((time - at(8, 0, 0)) as f64 / DAY as f64);
        story.lives_as(STEADY, at(8, 0, 0), at(29, 0, 0), factor);
        story.told()
    };
    "new-subjects-all-the-time", Nothing, "names its subjects after orders", || {
        let mut story = Story::new(115);
        story.happens(at(0, 0, 0), What::Connected(1, HOME));
        for n in 0..5_000_u64 {
            let time = at(0, 0, 0) + n * 2 * MINUTE + n % 7 * SECOND;
            let message = story.message(USUAL, time, format!("orders.{n}").into(), 900);
            story.happens(time, What::Sent(message));
        }
        story.told()
    };
    "more-readers", Nothing, "four new readers in a day", || {
        let mut story = Story::usually(116, USUAL, 9);
        for n in 0..4 {
            story.happens(at(8, 9 + 2 * n, 0), What::Granted(format!("reader{n}-abcdefghij").into()));
        }
        story.told()
    };
    "lossy-line", Nothing, "one in twenty of its numbers never comes, as always", || {
        let mut story = Story::usually(117, USUAL, 10);
        let mut n = 0_u64;
        for event in &mut story.events {
            if let What::Sent(message) = &mut event.what {
                n += 1;
                message.gap = u64::from(n.is_multiple_of(20));
            }
        }
        story.told()
    };
    "seldom", Nothing, "a dozen a day, when somebody asks", || {
        let mut story = Story::new(118);
        story.happens(at(0, 0, 0), What::Connected(1, HOME));
        story.lives(Habit { day: 1.0, night: 0.05, ..USUAL }, at(0, 0, 0), at(40, 0, 0));
        story.told()
    };
    "on-the-move", Nothing, "its connection breaks twenty times a day, as always", || {
        let mut story = Story::usually(119, USUAL, 9);
        for n in 0..180 {
            let time = at(0, 0, 0) + n * 72 * MINUTE;
            story.happens(time, What::Left(1));
            story.happens(time + 3 * SECOND, What::Connected(1, if n % 3 == 0 { AWAY } else { HOME }));
        }
        story.told()
    };
    "fleet", Nothing, "two sessions in two places, always", || {
        let mut story = Story::usually(120, USUAL, 9);
        story.happens(at(0, 0, 1), What::Connected(2, AWAY));
        story.session = 2;
        story.lives(USUAL, at(0, 0, 2), at(9, 0, 0));
        story.told()
    };
    "honest-mistakes", Nothing, "five signed envelopes that the policy denies, in an hour", || {
        let mut story = Story::usually(121, USUAL, 9);
        (0..5).for_each(|n| story.happens(at(8, 10, 12 * n), What::SignedDenial));
        story.told()
    };
    "guard-restart", Nothing, "the guard is restarted by day, and again", || {
        let mut story = Story::usually(122, STEADY, 9);
        for (day, hour) in [(3, 10), (6, 11), (8, 9)] {
            story.happens(at(day, hour, 17), What::Restart);
        }
        story.told()
    };
    "clock-set-back", Nothing, "the guard's clock and its own are set back five minutes", || {
        let mut story = Story::usually(123, STEADY, 8).told();
        let before = story.events.len();
        story.lives(STEADY, at(8, 0, 0), at(9, 0, 0));
        for event in story.events.iter_mut().skip(before) {
            event.time.0 -= 5 * MINUTE;
            if let What::Sent(message) = &mut event.what {
                message.sealed.0 -= 5 * MINUTE;
            }
        }
        // Not told in order: the clock goes back.
        story
    };
    "first-day", Nothing, "a new agent that is busy from the start", || {
        let mut story = Story::new(124);
        story.happens(at(0, 9, 0), What::Connected(1, HOME));
        story.lives_as(USUAL, at(0, 9, 0), at(0, 20, 0), |time| if (time / HOUR).is_multiple_of(3) { 30.0 } else { 1.0 });
        story.told()
    };
    "busy-hour", Nothing, "two and a half times its usual rate for an hour", || {
        let mut story = Story::usually(125, USUAL, 8);
        story.lives_as(USUAL, at(8, 10, 0), at(8, 11, 0), |_| 2.5);
        story.told()
    };
    "one-large-attachment", Nothing, "two messages of six times the usual size, each day", || {
        let mut story = Story::usually(126, USUAL, 9);
        (0..9).for_each(|day| story.sends(Habit { size: 6_000.0, spread: 0.2, ..USUAL }, at(day, 14, 10), MINUTE, 2));
        story.told()
    };
    "framed-with-junk", Nothing, "a hostile server puts ten thousand unsigned messages in its name", || {
        let mut story = Story::usually(127, USUAL, 9);
        (0..10_000).for_each(|n| story.happens(at(8, 10, 0) + n * 100, What::Junk));
        story.told()
    };
    "framed-by-bunching", Nothing, "a hostile server holds its envelopes back and delivers them at once", || {
        let mut story = Story::usually(128, STEADY, 9);
        for event in &mut story.events {
            // What was sealed in half a minute arrives in one millisecond at its end.
            event.time.0 = event.time.0.div_ceil(30 * SECOND) * 30 * SECOND;
        }
        story.told()
    };
    "framed-by-replaying", NoQuarantine, "a hostile server delivers everything three times over", || {
        let mut story = Story::usually(129, STEADY, 9);
        let again: Vec<_> = story.events.iter().filter_map(|event| match &event.what {
            What::Sent(message) if event.time.0 > at(8, 0, 0) => Some((event.time.0, message.mark)),
            _ => None,
        }).collect();
        for (time, mark) in again {
            (1..3).for_each(|n| story.happens(time + n * SECOND, What::Replayed(mark)));
        }
        story.told()
    };
    "framed-by-dropping", NoQuarantine, "a hostile server drops nine of ten for a week, then none", || {
        let mut story = Story::usually(130, STEADY, 17);
        let mut n = 0_u64;
        story.events.retain_mut(|event| {
            let What::Sent(message) = &mut event.what else { return true };
            n += 1;
            if event.time.0 < at(8, 0, 0) || event.time.0 > at(15, 0, 0) {
                return true;
            }
            message.gap = 9;
            n.is_multiple_of(10)
        });
        story.told()
    };
    "framed-at-the-door", NoQuarantine, "a hostile server makes up logins, places and departures", || {
        let mut story = Story::usually(131, USUAL, 9);
        for n in 0..200 {
            let time = at(8, 10, 0) + n * SECOND;
            story.happens(time, What::FailedLogin);
            story.happens(time, What::Connected(1_000 + n, n));
            story.happens(time, What::Asked(format!("rule-{n}").into()));
        }
        story.told()
    };
}

fn batch(seed: u64, late: u64) -> Story {
    let mut story = Story::usually(seed, USUAL, 10);
    for day in 0..10 {
        let from = at(day, 2, 0) + if day == 9 { late } else { 0 };
        story.sends(USUAL, from, 20 * MINUTE, 3_000);
    }
    story.told()
}

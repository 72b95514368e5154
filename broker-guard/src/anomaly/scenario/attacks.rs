//! What attackers do: prompt-injected agents, stolen keys, hostile publishers.

use super::{
    Expect, Scenario, Story, What,
    story::{AWAY, DAY, HOME, HOUR, Habit, MINUTE, SECOND, STEADY, USUAL, at},
};
use crate::anomaly::Mark;

macro_rules! attacks {
    ($($name:literal, $expect:ident, $about:literal, $tell:expr;)*) => {
        pub(super) const ALL: &[Scenario] = &[$(Scenario {
            name: $name, about: $about, expect: Expect::$expect, tell: $tell,
        },)*];
    };
}

attacks! {
    "flood", Watch, "a hundred times its usual rate for a quarter of an hour",
        || flood(1, 15 * MINUTE);
    "flood-that-stays", Quarantine, "the same for an hour: a burst would have passed",
        || flood(2, HOUR);
    "ramp-in-an-hour", Watch, "its rate doubles every ten minutes", || {
        let mut story = Story::usually(3, USUAL, 8);
        #[expect(clippy::cast_precision_loss, reason = "minutes of an hour")]
        let factor = |time: u64| ((time - at(8, 10, 0)) as f64 / (10.0 * 60_000.0)).exp2();
        story.lives_as(USUAL, at(8, 10, 0), at(8, 11, 0), factor);
        story.wrong_from(at(8, 10, 0)).told()
    };
    "ramp-over-days", Watch, "its rate rises by two fifths each day", || growing(4, 1.4, 12);
    "trained-slowly", Watch, "its rate rises by a quarter each day, to be learned", || growing(5, 1.25, 16);
    "exfiltration-in-bulk", Watch, "messages sixty times as large, no more of them", || {
        let mut story = Story::usually(6, USUAL, 8);
        story.lives(Habit { size: 60_000.0, ..USUAL }, at(8, 9, 0), at(8, 11, 0));
        story.wrong_from(at(8, 9, 0)).told()
    };
    "exfiltration-by-night", Watch, "sixty messages an hour when it otherwise sleeps", || {
        let asleep = Habit { night: 0.0, ..USUAL };
        let mut story = Story::usually(7, asleep, 8);
        story.lives(Habit { night: 60.0, ..USUAL }, at(8, 1, 0), at(8, 5, 0));
        story.wrong_from(at(8, 1, 0)).told()
    };
    "exfiltration-low-and-slow", Watch, "all messages three times as large, for days", || {
        let mut story = Story::usually(8, STEADY, 8);
        story.lives(Habit { size: 3_200.0, ..STEADY }, at(8, 0, 0), at(11, 0, 0));
        story.wrong_from(at(8, 0, 0)).told()
    };
    "exfiltration-with-traffic", Watch, "three times its usual rate by day and night, for days", || {
        let mut story = Story::usually(9, STEADY, 8);
        story.lives_as(STEADY, at(8, 0, 0), at(11, 0, 0), |_| 3.2);
        story.wrong_from(at(8, 0, 0)).told()
    };
    "label-laundering", Watch, "goes on under its rule with a label below any it used", || {
        let mut story = Story::usually(10, USUAL, 9);
        story.lives(Habit { day: 30.0, label: (1, 0), ..USUAL }, at(8, 10, 0), at(8, 13, 0));
        story.wrong_from(at(8, 10, 0)).told()
    };
    "label-upwards", Watch, "writes above any level and in a compartment it never used", || {
        let mut story = Story::usually(11, USUAL, 9);
        story.lives(Habit { day: 30.0, label: (3, 3), ..USUAL }, at(8, 10, 0), at(8, 11, 0));
        story.wrong_from(at(8, 10, 0)).told()
    };
    "label-sideways", Watch, "one new compartment after another", || {
        let mut story = Story::usually(12, USUAL, 9);
        for (n, bits) in [3, 5, 9].into_iter().enumerate() {
            let from = at(8, 10, 4 * u64::try_from(n).unwrap_or(0));
            story.sends(Habit { label: (2, bits), ..USUAL }, from, MINUTE, 3);
        }
        story.wrong_from(at(8, 10, 0)).told()
    };
    "subjects-tried-out", Watch, "six subjects that it never used, within ten minutes", || {
        let mut story = Story::usually(13, USUAL, 9);
        const OTHERS: &[&[&str]] = &[
            &["notes.board"], &["notes.payroll"], &["notes.legal"], &["notes.keys"], &["notes.staff"], &["notes.ops"],
        ];
        for (minute, subjects) in (0..).zip(OTHERS) {
            story.sends(Habit { subjects, ..USUAL }, at(8, 10, minute), MINUTE, 1);
        }
        story.wrong_from(at(8, 10, 0)).told()
    };
    "replayed-by-hand", Watch, "sixty of its envelopes come again", || {
        let mut story = Story::usually(14, USUAL, 9);
        (0..60).for_each(|n| story.happens(at(8, 10, 0) + n * SECOND, What::Replayed(None)));
        story.wrong_from(at(8, 10, 0)).told()
    };
    "stolen-key-elsewhere", Watch, "a second session from another place, beside the first", || {
        let mut story = Story::usually(15, USUAL, 9);
        story.happens(at(8, 10, 0), What::Connected(2, AWAY));
        story.session = 2;
        story.lives(Habit { day: 60.0, ..USUAL }, at(8, 10, 0), at(8, 11, 0));
        story.wrong_from(at(8, 10, 0)).told()
    };
    "stolen-session-key", Quarantine, "another envelope under a number that was used", || {
        let mut story = Story::usually(16, USUAL, 8);
        let habit = Habit { day: 3_600.0, ..USUAL };
        story.sends(habit, at(8, 10, 0), 1, 1);
        let Mark { number, envelope } = story.mark(story.sequence());
        story.happens(at(8, 10, 1), What::Replayed(Some(Mark { number, envelope: envelope ^ 1 })));
        story.wrong_from(at(8, 10, 0)).told()
    };
    "signed-contradiction", Quarantine, "a signed envelope in another agent's name", || {
        let mut story = Story::usually(17, USUAL, 8);
        story.happens(at(8, 10, 0), What::BadContent);
        story.wrong_from(at(8, 10, 0)).told()
    };
    "hostile-newcomer", Quarantine, "the same by an agent in its first hour", || {
        let mut story = Story::new(18);
        story.lives(USUAL, at(0, 10, 0), at(0, 11, 0));
        story.happens(at(0, 11, 0), What::BadContent);
        story.wrong_from(at(0, 11, 0)).told()
    };
    "key-sweep", Watch, "subscribes under twenty rules within two minutes", || {
        let mut story = Story::usually(19, USUAL, 9);
        for rule in ["notes", "mail"] {
            story.happens(at(0, 0, 1), What::Asked(rule.into()));
        }
        for n in 0..20 {
            story.happens(at(8, 10, 0) + n * 5 * SECOND, What::Asked(format!("rule-{n}").into()));
        }
        story.wrong_from(at(8, 10, 0)).told()
    };
    "silenced", Watch, "says nothing for six hours, and was never silent for five minutes", || {
        let mut story = Story::usually(20, STEADY, 8);
        story.lives(STEADY, at(8, 0, 0), at(8, 10, 0));
        story.lives(STEADY, at(8, 16, 0), at(8, 17, 0));
        story.wrong_from(at(8, 10, 0)).told()
    };
    "churn", Watch, "connects sixty times in ten minutes", || {
        let mut story = Story::usually(21, USUAL, 9);
        for n in 0..60 {
            story.happens(at(8, 10, 0) + n * 10 * SECOND, What::Connected(100 + n, HOME));
            story.happens(at(8, 10, 0) + n * 10 * SECOND + SECOND, What::Left(100 + n));
        }
        story.wrong_from(at(8, 10, 0)).told()
    };
    "login-guessing", Watch, "eight logins with its identity are refused", || {
        let mut story = Story::usually(22, USUAL, 9);
        (0..8).for_each(|n| story.happens(at(8, 10, 0) + n * 10 * SECOND, What::FailedLogin));
        story.wrong_from(at(8, 10, 0)).told()
    };
    "probing", Watch, "forty signed envelopes that the policy denies", || {
        let mut story = Story::usually(23, USUAL, 9);
        (0..40).for_each(|n| story.happens(at(8, 10, 0) + n * 5 * SECOND, What::SignedDenial));
        story.wrong_from(at(8, 10, 0)).told()
    };
    "made-up-parents", Watch, "derives five envelopes from what it was never given", || {
        let mut story = Story::usually(24, USUAL, 9);
        (0..5).for_each(|n| story.happens(at(8, 10, n), What::UntrueParents));
        story.wrong_from(at(8, 10, 0)).told()
    };
    "numbers-left-out", Watch, "half of its sequence numbers never come, and three things are denied", || {
        let mut story = Story::usually(25, USUAL, 8);
        for n in 0..60 {
            let time = at(8, 10, 0) + n * 20 * SECOND;
            let mut message = story.message(USUAL, time, "notes.web".into(), 1_000);
            message.gap = 2;
            story.happens(time, What::Sent(message));
        }
        (0..9).for_each(|n| story.happens(at(8, 10, 10) + 20 * n * SECOND, What::SignedDenial));
        story.wrong_from(at(8, 10, 0)).told()
    };
    "microbursts", Watch, "four hundred within one second, then nothing for an hour", || {
        let mut story = Story::usually(26, USUAL, 8);
        (10..14).for_each(|hour| story.sends(USUAL, at(8, hour, 30), SECOND, 400));
        story.wrong_from(at(8, 10, 30)).told()
    };
    "flood-and-launder", Quarantine, "a flood on new subjects with a label below any it used", || {
        let mut story = Story::usually(27, USUAL, 8);
        let habit = Habit { label: (1, 0), subjects: &["notes.a", "notes.b", "notes.c"], size: 20_000.0, ..USUAL };
        story.lives_as(habit, at(8, 10, 0), at(8, 10, 40), |_| 60.0);
        story.wrong_from(at(8, 10, 0)).told()
    };
    "erratic-first", Watch, "a week of wild ups and downs within its limits, then a flood", || {
        let mut story = Story::usually(28, STEADY, 8);
        let wild = |time: u64| if (time / HOUR).is_multiple_of(2) { 3.0 } else { 0.3 };
        story.lives_as(STEADY, at(8, 0, 0), at(15, 0, 0), wild);
        story.lives_as(STEADY, at(15, 0, 0), at(15, 1, 0), |_| 60.0);
        story.wrong_from(at(8, 0, 0)).told()
    };
    "hides-behind-an-outage", Watch, "silent for an hour, then thirty times what was missed", || {
        let mut story = Story::usually(29, USUAL, 8);
        story.lives(USUAL, at(8, 0, 0), at(8, 10, 0));
        story.sends(USUAL, at(8, 11, 0), 10 * MINUTE, 3_600);
        story.wrong_from(at(8, 11, 0)).told()
    };
    "weekend-shift", Watch, "works on Saturday as it does on weekdays, and never did before", || {
        let habit = Habit { weekend: 0.02, ..USUAL };
        let mut story = Story::usually(30, habit, 12);
        story.lives(USUAL, at(12, 8, 0), at(12, 20, 0));
        story.wrong_from(at(12, 8, 0)).told()
    };
}

fn flood(seed: u64, lasts: u64) -> Story {
    let mut story = Story::usually(seed, USUAL, 8);
    story.lives_as(USUAL, at(8, 10, 0), at(8, 10, 0) + lasts, |_| 100.0);
    story.wrong_from(at(8, 10, 0)).told()
}

fn growing(seed: u64, a_day: f64, days: u64) -> Story {
    let habit = Habit { day: 60.0, night: 60.0, ..USUAL };
    let mut story = Story::usually(seed, habit, 8);
    #[expect(clippy::cast_precision_loss, reason = "some days")]
    let factor = |time: u64| a_day.powf((time - at(8, 0, 0)) as f64 / DAY as f64);
    story.lives_as(habit, at(8, 0, 0), at(8 + days, 0, 0), factor);
    story.wrong_from(at(8, 0, 0)).told()
}

//! Times as people read them.

use sealbus_envelope::time::Millis;

/// Milliseconds in a day.
pub(crate) const DAY: u64 = 24 * 3_600_000;

/// A time as RFC 3339 in UTC, to the second.
pub(crate) fn rfc3339(time: Millis) -> String {
    let seconds = i64::try_from(time.seconds()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| format!("{} ms", time.0), |time| time.to_string())
}

/// A time of day in UTC, to the millisecond.
pub(crate) fn clock(time: Millis) -> String {
    let ms = i64::try_from(time.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms)
        .map_or_else(|_| format!("{} ms", time.0), |time| time.strftime("%H:%M:%S%.3f").to_string())
}

/// How far away a time is, such as `in 6 days` or `3 hours ago`.
pub(crate) fn relative(time: Millis, now: Millis) -> String {
    let span = |ms: u64| {
        let (n, unit) = match ms / 1000 {
            s if s < 120 => (s, "second"),
            s if s < 7200 => (s / 60, "minute"),
            s if s < 172_800 => (s / 3600, "hour"),
            s => (s / 86_400, "day"),
        };
        format!("{n} {unit}{}", if n == 1 { "" } else { "s" })
    };
    if time >= now {
        format!("in {}", span(time.since(now)))
    } else {
        format!("{} ago", span(now.since(time)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_well() {
        assert_eq!(rfc3339(Millis::from_seconds(1_800_000_000)), "2027-01-15T08:00:00Z");
        assert_eq!(clock(Millis(1_800_000_000_042)), "08:00:00.042");
        assert_eq!(relative(Millis(7 * DAY), Millis(0)), "in 7 days");
        assert_eq!(relative(Millis(0), Millis(1000)), "1 second ago");
        assert_eq!(relative(Millis(0), Millis(3_600_000)), "60 minutes ago");
    }
}

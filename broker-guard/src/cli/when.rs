//! Times as people read them.

use sealbus_envelope::time::Millis;

/// Milliseconds in a day.
pub(crate) const DAY: u64 = 24 * 3_600_000;

/// A time as RFC 3339 in UTC, to the second.
pub(crate) fn rfc3339(time: Millis) -> String {
    let seconds = i64::try_from(time.seconds()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| format!("{} ms", time.0), |time| time.to_string())
}

/// A date in UTC.
pub(crate) fn date(time: Millis) -> String {
    rfc3339(time).split('T').next().unwrap_or_default().to_owned()
}

/// A time as given on the command line: RFC 3339, the beginning of a day in UTC, or how long before `now`.
pub(crate) fn parse(text: &str, now: Millis) -> Result<Millis, String> {
    let told = || {
        "give a time such as `2026-01-31T12:00:00Z`, a day such as `2026-01-31`, or how long ago, such as `90s`, \
         `15m`, `2h`, `7d`"
    };
    let day = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
    let time = text.parse::<jiff::Timestamp>().ok().or_else(|| day().map(|day| day.timestamp()));
    if let Some(time) = time {
        return u64::try_from(time.as_millisecond()).map(Millis).map_err(|_| told().to_owned());
    }
    let unit = match text.chars().next_back() {
        Some('s') => 1_000,
        Some('m') => 60_000,
        Some('h') => 3_600_000,
        Some('d') => DAY,
        _ => return Err(told().to_owned()),
    };
    let number = text.get(..text.len() - 1).and_then(|digits| digits.parse::<u64>().ok());
    number.map(|n| now.minus(n.saturating_mul(unit))).ok_or_else(|| told().to_owned())
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
        assert_eq!(parse("2h", Millis(DAY)), Ok(Millis(22 * 3_600_000)));
        assert_eq!(parse("1970-01-02T00:00:00Z", Millis(0)), Ok(Millis(DAY)));
        assert_eq!(parse("1970-01-02", Millis(0)), Ok(Millis(DAY)));
        for bad in ["", "h", "2", "-1h", "yesterday", "2é", "2026-13-01", "1969-12-31"] {
            assert!(parse(bad, Millis(DAY)).is_err(), "{bad}");
        }
        assert_eq!(relative(Millis(7 * DAY), Millis(0)), "in 7 days");
        assert_eq!(relative(Millis(0), Millis(1000)), "1 second ago");
        assert_eq!(relative(Millis(0), Millis(3_600_000)), "60 minutes ago");
    }
}

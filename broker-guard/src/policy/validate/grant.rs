//! Flow grants: whose, from where to where, by which step, until when.

use sealbus_envelope::label::Integrity;
use sealbus_envelope::name::Name;
use sealbus_envelope::policy as record;
use sealbus_envelope::time::Millis;

use super::Resolver;
use crate::policy::diagnostic::{Code, Finding};
use crate::policy::model::{FlowGrant, MAX_BYTES};
use crate::policy::names::checked_name;
use crate::policy::source::{At, RawGrant};

impl Resolver<'_> {
    pub(super) fn grant(&mut self, name: &At<String>, raw: &RawGrant) -> Option<FlowGrant> {
        let checked = checked_name("flow grant", name, self.findings);
        if let Some(team) = &raw.team {
            self.teams.number(team, self.findings);
        }
        let from = raw.from.as_ref().and_then(|pattern| self.pattern(pattern));
        let to = raw.to.as_ref().and_then(|pattern| self.pattern(pattern));
        let from_label = self.label(raw.from_label.as_ref(), Integrity::LOWEST);
        let to_label = self.label(raw.to_label.as_ref(), Integrity::LOWEST);
        let expires = raw.expires.as_ref().and_then(|written| self.moment(written));
        let max_bytes = raw.max_bytes.as_ref().map(|n| self.number("max_bytes", n, MAX_BYTES));
        let rate = raw.rate.as_ref().map(|rate| self.rate(Some(rate)));
        let approval = self.hold(raw.approval.as_ref());
        Some(FlowGrant {
            record: record::FlowGrant {
                name: checked?,
                team: raw.team.as_ref().and_then(|team| Name::parse(&team.value).ok())?,
                from: from?,
                to: to?,
                from_label: from_label?,
                to_label: to_label?,
                max_bytes: max_bytes.map_or(Some(None), |n| n.map(Some))?,
                rate: rate.map_or(Some(None), |rate| rate.map(Some))?,
                expires: expires?,
                approval: approval?,
            },
            reason: raw.reason.as_ref()?.value.clone(),
        })
    }

    /// A day ends when it is over in UTC.
    fn moment(&mut self, written: &At<String>) -> Option<Millis> {
        let text = &written.value;
        let day = || {
            let day: jiff::civil::Date = text.parse().ok()?;
            Some(day.tomorrow().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
        };
        let moment = text.parse::<jiff::Timestamp>().ok().or_else(day);
        let millis = moment.and_then(|moment| u64::try_from(moment.as_millisecond()).ok()).map(Millis);
        if millis.is_none() {
            let message = format!("`{text}` is not a day or a time");
            self.findings.push(
                Finding::error(Code::InvalidValue, message, written.span.clone(), "not a time Sealbus takes")
                    .help("write a day such as `2027-06-30` or a time with its zone such as `2027-06-30T12:00:00Z`"),
            );
        }
        millis
    }
}

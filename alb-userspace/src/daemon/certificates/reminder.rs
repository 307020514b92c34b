//! Which certificates are to be warned of now. Pure.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use crate::{certificate::warnings, model::Model};

/// A warning is repeated after this.
const AGAIN: Duration = Duration::from_hours(24);

/// What was warned of, by id: serial number and time.
#[derive(Debug, Default)]
pub(super) struct Reminder(BTreeMap<String, (String, SystemTime)>);

impl Reminder {
    /// Somebody was warned of everything in a model.
    pub(super) fn told(&mut self, model: &Model, now: SystemTime) {
        let _told = self.due(model, now);
    }

    /// What is to be warned of: names and warnings. They count as told.
    pub(super) fn due(&mut self, model: &Model, now: SystemTime) -> Vec<(String, String)> {
        let mut before = std::mem::take(&mut self.0);
        let mut due = Vec::new();
        for certificate in &model.certificates {
            let found = warnings(&certificate.facts, now);
            if found.is_empty() {
                continue;
            }
            let serial = &certificate.facts.serial;
            let told = before.remove(&certificate.id).filter(|(of, _)| of == serial);
            let at = match told {
                // A clock that went back is no reason to wait for years.
                Some((_, at)) if now.duration_since(at).is_ok_and(|ago| ago < AGAIN) => at,
                _ => {
                    let name = &certificate.name;
                    due.extend(found.into_iter().map(|warning| (name.clone(), warning)));
                    now
                }
            };
            self.0.insert(certificate.id.clone(), (serial.clone(), at));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    const DAY: Duration = Duration::from_hours(24);

    fn model(pem: &str) -> Model {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tls");
        let text = format!(
            "node: {{ interfaces: [eth0] }}\n\
             certificates: [{{ name: c, certFile: {pem}.pem, keyFile: {pem}.key }}]\n"
        );
        config::parse(&text, &dir).unwrap().model
    }

    #[test]
    fn a_warning_comes_once_a_day_from_thirty_days_before() {
        let ecdsa = model("ecdsa");
        let end = ecdsa.certificates[0].facts.not_after;
        let mut reminder = Reminder::default();
        let none: [(String, String); 0] = [];
        assert_eq!(reminder.due(&ecdsa, end - 31 * DAY), none);
        let first = reminder.due(&ecdsa, end - 30 * DAY);
        assert_eq!(first.len(), 1);
        assert!(first[0].1.contains("expires in 30 days"), "{first:?}");
        assert_eq!(reminder.due(&ecdsa, end - 30 * DAY + Duration::from_secs(2)), none);
        assert_eq!(reminder.due(&ecdsa, end - 29 * DAY - Duration::from_secs(1)), none);
        assert!(reminder.due(&ecdsa, end - 29 * DAY)[0].1.contains("in 29 days"));
        // Another certificate under the name is another matter.
        let rsa = model("rsa");
        let end = end.max(rsa.certificates[0].facts.not_after);
        assert!(reminder.due(&rsa, end + DAY)[0].1.contains("expired on"));
        assert_eq!(reminder.due(&rsa, end + DAY), none);
        assert_eq!(reminder.due(&ecdsa, end + DAY).len(), 1);
        assert_eq!(reminder.due(&ecdsa, end).len(), 1, "the clock went back");
    }

    #[test]
    fn what_was_told_is_not_said_again_at_once() {
        let model = model("ecdsa");
        let end = model.certificates[0].facts.not_after;
        let mut reminder = Reminder::default();
        reminder.told(&model, end - 31 * DAY);
        assert_eq!(reminder.due(&model, end - 30 * DAY).len(), 1, "there was nothing to tell");
        reminder.told(&model, end - 20 * DAY);
        assert_eq!(reminder.due(&model, end - 20 * DAY + Duration::from_hours(23)).len(), 0);
        assert_eq!(reminder.due(&model, end - 19 * DAY).len(), 1);
    }
}

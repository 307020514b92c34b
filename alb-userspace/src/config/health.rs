//! Health checks of a backend.

use std::{num::NonZeroU16, ops::RangeInclusive, time::Duration};

use super::{
    cursor::{Field, Object, Range},
    format,
};
use crate::model::{CodeRange, HealthCheck, HttpCheck};

const TIMEOUT: Range<u16> = Range::new(2..=60, 3);
const INTERVAL: RangeInclusive<i64> = 5..=300;
const INTERVAL_DEFAULT: i64 = 5;
const THRESHOLD: Range<u8> = Range::new(1..=5, 3);
const PORT: Range<u16> = Range::new(0..=65_535, 0);
const PATH: &str = "/";
const PATH_CHARS: usize = 100;
const PATH_LEVELS: usize = 5;
const DOMAIN_CHARS: usize = 255;
const CODES: RangeInclusive<u16> = 200..=499;
const CODES_DEFAULT: [CodeRange; 2] =
    [CodeRange { low: 200, high: 299 }, CodeRange { low: 300, high: 399 }];
/// The interval that the product text recommends and refuses.
const SWAPPED: i64 = 3;

const HTTP_KEYS: [&str; 4] = ["httpPath", "httpCode", "httpDomain", "httpVersion"];

/// A TCP connect with the default numbers: what a backend has that says nothing.
pub(super) fn default() -> HealthCheck {
    HealthCheck {
        http: None,
        timeout: Duration::from_secs(TIMEOUT.default.into()),
        interval: Duration::from_secs(INTERVAL_DEFAULT.unsigned_abs()),
        healthy_threshold: THRESHOLD.default,
        unhealthy_threshold: THRESHOLD.default,
        port: None,
    }
}

pub(super) fn read(object: &Object<'_>) -> Option<HealthCheck> {
    let http = object.need("protocol").and_then(|field| protocol(&field));
    let timeout = object.int("checkTimeoutSeconds", &TIMEOUT);
    let interval =
        object.get("intervalSeconds").map_or(Some(INTERVAL_DEFAULT), |field| interval(&field));
    let healthy_threshold = object.int("healthyThresholdCount", &THRESHOLD);
    let unhealthy_threshold = object.int("unhealthyThresholdCount", &THRESHOLD);
    let port = object.int("port", &PORT);
    let [path, codes, domain, version] = HTTP_KEYS.map(|key| object.get(key));
    let http = if http? {
        Some(HttpCheck {
            path: path.map_or_else(|| Some(PATH.to_owned()), |field| check_path(&field))?,
            codes: codes.map_or_else(|| CODES_DEFAULT.to_vec(), |field| check_codes(&field)),
            domain: domain.and_then(|field| check_domain(&field)),
            http11: version.and_then(|field| field.choice(VERSIONS)).unwrap_or(false),
        })
    } else {
        for field in [path, codes, domain, version].into_iter().flatten() {
            field.reject("is for checks with protocol Http, this one has Tcp");
        }
        None
    };
    Some(HealthCheck {
        http,
        timeout: Duration::from_secs(timeout.into()),
        interval: Duration::from_secs(interval?.unsigned_abs()),
        healthy_threshold,
        unhealthy_threshold,
        port: NonZeroU16::new(port),
    })
}

const VERSIONS: &[(&str, bool)] = &[("HTTP1.0", false), ("HTTP1.1", true)];

/// Whether it is an HTTP check.
fn protocol(field: &Field<'_>) -> Option<bool> {
    if field.peek().is_some_and(|text| text.eq_ignore_ascii_case("icmp")) {
        field.reject("ICMP checks are not offered, allowed is Http or Tcp");
        return None;
    }
    field.choice(&[("Http", true), ("Tcp", false)])
}

fn interval(field: &Field<'_>) -> Option<i64> {
    let (low, high) = (INTERVAL.start(), INTERVAL.end());
    let seconds = field.integer(&format!("{low}–{high}"))?;
    if seconds == SWAPPED {
        field.reject(format!(
            "allowed is {low}–{high}; the product text recommends a timeout of 5000 ms and an \
             interval of 3000 ms, which has the two swapped: use checkTimeoutSeconds: 3 and \
             intervalSeconds: 5"
        ));
        return None;
    }
    if !INTERVAL.contains(&seconds) {
        field.reject(format!("allowed is {low}–{high}"));
        return None;
    }
    Some(seconds)
}

fn check_path(field: &Field<'_>) -> Option<String> {
    let path = field.text()?;
    // Everything that cannot be sent in a request line as it is; UTF-8 is encoded then.
    let strange =
        |char: char| !(char.is_alphanumeric() || "-/.%?#&_;~!()*[]@^:',+=<>{}".contains(char));
    let before_query = path.split(['?', '#']).next().unwrap_or_default();
    let levels = before_query.split('/').filter(|level| !level.is_empty()).count();
    let fault = if !path.starts_with('/') {
        "must start with `/`".to_owned()
    } else if path.chars().count() > PATH_CHARS {
        format!("allowed are {PATH_CHARS} characters")
    } else if levels > PATH_LEVELS {
        format!("allowed are {PATH_LEVELS} levels, this path has {levels}")
    } else if let Some(strange) = path.chars().find(|char| strange(*char)) {
        format!("the character {strange:?} is not allowed in a path")
    } else {
        return Some(path.to_owned());
    };
    field.reject(fault);
    None
}

fn check_domain(field: &Field<'_>) -> Option<String> {
    let domain = field.text()?;
    if domain.is_empty() {
        return None;
    }
    let is_address = domain.parse::<std::net::IpAddr>().is_ok();
    if domain.chars().count() > DOMAIN_CHARS {
        field.reject(format!("allowed are {DOMAIN_CHARS} characters"));
    } else if let Some(fault) = format::domain_fault(domain).filter(|_| !is_address) {
        field.reject(fault);
    }
    Some(domain.to_owned())
}

/// A list, a comma list or one item: `[2xx, 301]`, `2xx,301`, `200-204`.
fn check_codes(field: &Field<'_>) -> Vec<CodeRange> {
    let items = if field.is_list() { field.items() } else { vec![field.clone()] };
    let mut codes: Vec<CodeRange> = Vec::new();
    for item in items {
        let Some(text) = item.text() else { continue };
        for part in text.split([',', '+']).map(str::trim) {
            match code_range(part) {
                Some(range) => codes.push(range),
                None => item.reject_part(
                    part,
                    "allowed is a code, a range like 200-204 (within 200–499), 2xx, 3xx or 4xx",
                ),
            }
        }
    }
    if field.is_list() && field.items().is_empty() {
        field.complain("at least one code is needed");
    }
    codes.sort_unstable();
    codes.dedup();
    codes
}

fn code_range(text: &str) -> Option<CodeRange> {
    let class = |low: u16| Some(CodeRange { low, high: low + 99 });
    match text.to_ascii_lowercase().as_str() {
        "2xx" => return class(200),
        "3xx" => return class(300),
        "4xx" => return class(400),
        _ => {}
    }
    let number = |text: &str| text.parse().ok().filter(|code| CODES.contains(code));
    match text.split_once('-') {
        None => number(text).map(|code| CodeRange { low: code, high: code }),
        Some((low, high)) => {
            let range = CodeRange { low: number(low)?, high: number(high)? };
            (range.low < range.high).then_some(range)
        }
    }
}

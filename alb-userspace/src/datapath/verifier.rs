//! What matters of a verifier log.

/// Lines kept from the end of a log.
const LINES: usize = 12;

/// The last lines before the statistics: the instruction that was refused, and why.
pub(super) fn excerpt(log: &str) -> String {
    let lines: Vec<&str> = log
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty() && !line.starts_with("processed "))
        .collect();
    if lines.is_empty() {
        return "the kernel gave no log".to_owned();
    }
    let from = lines.len().saturating_sub(LINES);
    let cut = if from > 0 { "  …\n" } else { "" };
    let shown: Vec<String> = lines[from..].iter().map(|line| format!("  {line}")).collect();
    format!("{cut}{}", shown.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_matters() {
        let lines: Vec<String> = (0..30).map(|n| format!("{n}: (b7) r0 = {n}\n")).collect();
        let log =
            lines.concat() + "R1 invalid mem access 'scalar'\nprocessed 30 insns (limit 1000000)\n";
        let excerpt = excerpt(&log);
        assert!(excerpt.starts_with("  …\n  19: "), "{excerpt}");
        assert!(excerpt.ends_with("\n  R1 invalid mem access 'scalar'"), "{excerpt}");
    }

    #[test]
    fn an_empty_log_is_said_to_be_one() {
        assert_eq!(excerpt("\n"), "the kernel gave no log");
    }
}

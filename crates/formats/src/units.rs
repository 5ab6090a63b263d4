//! Numbers for people, as the command line writes them (ts/src/report/units.ts).

const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// Bytes to base 1024 with three significant digits: `512 B`, `1.50 KiB`, `2.25 GiB`.
pub fn bytes(value: u64) -> String {
    let (mut unit, mut scaled) = (0, value as f64);
    while scaled >= 999.5 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    let digits = match scaled {
        _ if unit == 0 => 0,
        many if many >= 99.95 => 0,
        some if some >= 9.995 => 1,
        _ => 2,
    };
    format!("{scaled:.digits$} {}", UNITS[unit])
}

/// A count with its noun, in groups of three digits: `1 file`, `12,345 files`.
pub fn count(value: u64, one: &str, many: &str) -> String {
    let digits = value.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{grouped} {}", if value == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_digits() {
        for (value, text) in [
            (0, "0 B"),
            (1, "1 B"),
            (999, "999 B"),
            (1000, "0.98 KiB"),
            (1023, "1.00 KiB"),
            (1024, "1.00 KiB"),
            (1536, "1.50 KiB"),
            (10 * 1024, "10.0 KiB"),
            (100 * 1024, "100 KiB"),
            (999 * 1024, "999 KiB"),
            (1000 * 1024, "0.98 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(value), text, "{value}");
        }
    }

    #[test]
    fn counts_have_groups() {
        for (value, text) in [
            (0, "0 inodes"),
            (1, "1 inode"),
            (999, "999 inodes"),
            (1000, "1,000 inodes"),
            (1_234_567, "1,234,567 inodes"),
        ] {
            assert_eq!(count(value, "inode", "inodes"), text);
        }
    }
}

//! Owns how a setting's value is written by people and read back: sizes, times, counts, words. Never knows a setting.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A kind of value that a setting may have.
pub(super) trait Value: Clone + PartialOrd {
    /// What is expected, as a message names it.
    const FORM: &'static str;
    /// From the configuration file; `None` when it is of another kind.
    fn read(raw: &toml::Value) -> Option<Self>;
    /// As a person writes it, without quotes.
    fn show(&self) -> String;
    /// As it stands in the configuration file.
    fn in_file(&self) -> String {
        format!("{:?}", self.show())
    }
}

/// A number of bytes, written `"64 MiB"`, `"512 KiB"` or as a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// In KiB.
    #[must_use]
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    /// In MiB.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// In GiB.
    #[must_use]
    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }

    /// For lengths in memory; the largest there is when it does not fit.
    #[must_use]
    pub fn in_memory(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show())
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text, &SIZES).map(Self).ok_or_else(|| format!("{text:?} is not {}", Self::FORM))
    }
}

/// Units with their factor, largest first.
type Units = [(&'static str, u64)];

const SIZES: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const TIMES: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];

/// `64 MiB`: a whole number, a unit, and perhaps a space between.
fn parse(text: &str, units: &Units) -> Option<u64> {
    let text = text.trim();
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '_')?;
    let (digits, unit) = text.split_at(unit_at);
    let count: u64 = digits.replace('_', "").parse().ok()?;
    let (_, factor) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))?;
    count.checked_mul(*factor)
}

/// In the largest unit that leaves a whole number.
fn show(amount: u64, units: &Units) -> String {
    let fits = |factor: u64| amount >= factor && amount.is_multiple_of(factor);
    let (unit, factor) = units
        .iter()
        .find(|(_, factor)| fits(*factor))
        .or(units.last())
        .expect("a table of units is never empty");
    format!("{} {unit}", amount / factor)
}

impl Value for Size {
    const FORM: &'static str = "a size such as \"64 MiB\"";

    fn read(raw: &toml::Value) -> Option<Self> {
        match raw {
            toml::Value::Integer(bytes) => u64::try_from(*bytes).ok().map(Self),
            toml::Value::String(text) => parse(text, &SIZES).map(Self),
            _ => None,
        }
    }

    fn show(&self) -> String {
        show(self.0, &SIZES)
    }
}

impl Value for Duration {
    const FORM: &'static str = "a time such as \"500 ms\" or \"30 s\"";

    fn read(raw: &toml::Value) -> Option<Self> {
        raw.as_str().and_then(|text| parse(text, &TIMES)).map(Self::from_millis)
    }

    fn show(&self) -> String {
        show(u64::try_from(self.as_millis()).unwrap_or(u64::MAX), &TIMES)
    }
}

impl Value for u32 {
    const FORM: &'static str = "a whole number";

    fn read(raw: &toml::Value) -> Option<Self> {
        raw.as_integer().and_then(|number| Self::try_from(number).ok())
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn in_file(&self) -> String {
        self.to_string()
    }
}

impl Value for String {
    const FORM: &'static str = "a text in quotes";

    fn read(raw: &toml::Value) -> Option<Self> {
        raw.as_str().map(str::to_owned)
    }

    fn show(&self) -> String {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> toml::Value {
        toml::Value::String(text.to_owned())
    }

    #[test]
    fn sizes_and_times_are_read_as_people_write_them() {
        assert_eq!(Size::read(&text("64 MiB")), Some(Size(64 << 20)));
        assert_eq!(Size::read(&text("64mib")), Some(Size(64 << 20)));
        assert_eq!(Size::read(&toml::Value::Integer(17)), Some(Size(17)));
        assert_eq!(Duration::read(&text("500 ms")), Some(Duration::from_millis(500)));
        assert_eq!(Duration::read(&text("2 min")), Some(Duration::from_secs(120)));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for bad in ["", "MiB", "64", "-1 MiB", "64 MB", "99999999999 TiB", "1.5 GiB"] {
            assert_eq!(Size::read(&text(bad)), None, "{bad:?}");
            assert!(bad.parse::<Size>().is_err_and(|why| why.contains("64 MiB")), "{bad:?}");
        }
        assert_eq!(Duration::read(&toml::Value::Integer(5)), None, "a time needs its unit");
        assert_eq!(u32::read(&toml::Value::Integer(-1)), None);
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(amount in any::<u64>()) {
            let size = Size(amount);
            prop_assert_eq!(Size::read(&text(&size.show())), Some(size));
            prop_assert_eq!(size.show().parse(), Ok(size));
            let time = Duration::from_millis(amount);
            prop_assert_eq!(Duration::read(&text(&time.show())), Some(time));
        }
    }
}

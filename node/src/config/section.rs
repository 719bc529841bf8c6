//! Owns how a section of the configuration is declared: one list gives the fields, their defaults, their legal ranges and
//! their documentation, so that none of them can drift from the others. Never knows which settings there are.

use super::ConfigError;
use super::value::Value;

/// Stands for an address where there shall be none.
pub(super) const OFF: &str = "off";

/// The values that a setting may take, and how a message names them.
pub(super) struct Legal<T> {
    pub(super) words: String,
    pub(super) holds: Box<dyn Fn(&T) -> bool>,
}

/// Both ends included.
pub(super) fn between<T: Value + 'static>(low: T, high: T) -> Legal<T> {
    let words = format!("{} to {}", low.show(), high.show());
    Legal { words, holds: Box::new(move |value| *value >= low && *value <= high) }
}

pub(super) fn not_empty() -> Legal<String> {
    Legal {
        words: "any text but the empty one".to_owned(),
        holds: Box::new(|text| !text.is_empty()),
    }
}

pub(super) fn one_of(choices: &'static [&'static str]) -> Legal<String> {
    Legal {
        words: choices.join(" or "),
        holds: Box::new(move |text| choices.contains(&text.as_str())),
    }
}

/// `host:port`.
pub(super) fn address() -> Legal<String> {
    Legal { words: "host:port".to_owned(), holds: Box::new(|text| is_address(text)) }
}

/// `host:port`, or the word that says: nowhere.
pub(super) fn address_or_off() -> Legal<String> {
    Legal {
        words: "host:port, or off".to_owned(),
        holds: Box::new(|text| text == OFF || is_address(text)),
    }
}

pub(super) fn is_address(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// A setting as its documentation shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Knob {
    /// Its name inside the section.
    pub key: &'static str,
    /// What it means and why the default is what it is.
    pub about: &'static [&'static str],
    /// The default, as it stands in the file.
    pub default: String,
    /// What it may be.
    pub legal: String,
}

/// A part of the configuration.
pub(super) trait Section: Default {
    const NAME: &'static str;
    const ABOUT: &'static [&'static str];
    fn knobs() -> Vec<Knob>;
    /// Takes over one value; `None` when there is no such setting.
    fn set(&mut self, key: &str, raw: &toml::Value) -> Option<Result<(), ConfigError>>;
}

pub(super) fn take<T: Value>(
    section: &str,
    key: &str,
    raw: &toml::Value,
    legal: &Legal<T>,
) -> Result<T, ConfigError> {
    let key = format!("{section}.{key}");
    let shown = raw.to_string();
    match T::read(raw) {
        None => Err(ConfigError::WrongKind { key, value: shown, form: T::FORM }),
        Some(value) if (legal.holds)(&value) => Ok(value),
        Some(_) => Err(ConfigError::OutOfRange { key, value: shown, legal: legal.words.clone() }),
    }
}

/// Declares a section. The comment of a field becomes its documentation in Rust and in `deploy/node.toml`.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $name:ident = $section:literal {
            $( $(#[doc = $doc:literal])+ $field:ident: $kind:ty = $default:expr, $legal:expr; )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $field: $kind, )+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )+ }
            }
        }

        impl $crate::config::section::Section for $name {
            const NAME: &'static str = $section;
            const ABOUT: &'static [&'static str] = &[$( $about, )+];

            fn knobs() -> Vec<$crate::config::section::Knob> {
                use $crate::config::value::Value;
                let default = Self::default();
                vec![ $( $crate::config::section::Knob {
                    key: stringify!($field),
                    about: &[$( $doc, )+],
                    default: default.$field.in_file(),
                    legal: $legal.words,
                }, )+ ]
            }

            fn set(
                &mut self,
                key: &str,
                raw: &toml::Value,
            ) -> Option<Result<(), $crate::config::ConfigError>> {
                Some(match key {
                    $( stringify!($field) => {
                        $crate::config::section::take($section, key, raw, &$legal)
                            .map(|value| self.$field = value)
                    } )+
                    _ => return None,
                })
            }
        }
    };
}
pub(super) use section;

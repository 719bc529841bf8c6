//! The contract as a listing, held against the committed one, `contract.txt`: no field, number, type, label, rpc or failure
//! class changes by accident, and an addition is seen in review. `WAYMARK_REWRITE_CONTRACT=1 cargo test -p waymark-proto
//! --test contract` writes the file anew; removed or changed lines of `waymark.v1` then need a reason that outweighs every
//! client.

use std::collections::BTreeSet;
use std::path::PathBuf;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, ServiceDescriptorProto,
};
use waymark_proto::DESCRIPTORS;
use waymark_proto::failure::FailureCode;

const REWRITE: &str = "WAYMARK_REWRITE_CONTRACT";

fn committed() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/contract.txt")
}

/// The project's own files; what it imports from elsewhere is no contract of its.
fn files() -> Vec<FileDescriptorProto> {
    let set = FileDescriptorSet::decode(DESCRIPTORS).expect("descriptors that the build wrote");
    set.file.into_iter().filter(|file| file.package().starts_with("waymark.")).collect()
}

#[derive(Default)]
struct Listing(BTreeSet<String>);

impl Listing {
    fn add(&mut self, line: impl Into<String>) {
        self.0.insert(line.into());
    }

    fn file(&mut self, file: &FileDescriptorProto) {
        let package = file.package();
        file.message_type.iter().for_each(|message| self.message(package, message));
        file.enum_type.iter().for_each(|each| self.enumeration(package, each));
        file.service.iter().for_each(|service| self.service(package, service));
        let Some(options) = &file.options else { return };
        let name = file.name();
        for (option, value) in [
            ("java_package", &options.java_package),
            ("go_package", &options.go_package),
            ("csharp_namespace", &options.csharp_namespace),
            ("php_namespace", &options.php_namespace),
            ("ruby_package", &options.ruby_package),
        ] {
            if let Some(value) = value {
                self.add(format!("{name}: {option} = {value}"));
            }
        }
        if let Some(several) = options.java_multiple_files {
            self.add(format!("{name}: java_multiple_files = {several}"));
        }
    }

    fn message(&mut self, scope: &str, message: &DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        self.add(format!("{name} message"));
        for field in &message.field {
            let (field_name, number) = (field.name(), field.number());
            let (kind, label) = (field_type(field), label(field, message));
            self.add(format!("{name}.{field_name} = {number} {kind}{label}"));
        }
        for range in &message.reserved_range {
            // The end is exclusive in a message, and inclusive in an enum.
            self.add(format!("{name} reserved {} to {}", range.start(), range.end() - 1));
        }
        for reserved in &message.reserved_name {
            self.add(format!("{name} reserved {reserved:?}"));
        }
        message.nested_type.iter().for_each(|nested| self.message(&name, nested));
        message.enum_type.iter().for_each(|nested| self.enumeration(&name, nested));
    }

    fn enumeration(&mut self, scope: &str, each: &EnumDescriptorProto) {
        let name = format!("{scope}.{}", each.name());
        for value in &each.value {
            self.add(format!("{name}.{} = {} enum", value.name(), value.number()));
        }
        for range in &each.reserved_range {
            self.add(format!("{name} reserved {} to {}", range.start(), range.end()));
        }
        for reserved in &each.reserved_name {
            self.add(format!("{name} reserved {reserved:?}"));
        }
    }

    fn service(&mut self, scope: &str, service: &ServiceDescriptorProto) {
        let name = format!("{scope}.{}", service.name());
        for method in &service.method {
            let stream = |streams: bool| if streams { "stream " } else { "" };
            self.add(format!(
                "{name}/{} rpc ({}{}) returns ({}{})",
                method.name(),
                stream(method.client_streaming()),
                method.input_type().trim_start_matches('.'),
                stream(method.server_streaming()),
                method.output_type().trim_start_matches('.'),
            ));
        }
    }

    fn failures(&mut self) {
        for code in failure_codes() {
            let (name, class, status) = (code.as_str_name(), code.retry(), code.grpc());
            self.add(format!("failure {name}: {} {status:?}", class.as_str_name()));
        }
    }
}

fn failure_codes() -> impl Iterator<Item = FailureCode> {
    (1..1_000).filter_map(|number| FailureCode::try_from(number).ok())
}

fn field_type(field: &FieldDescriptorProto) -> String {
    match field.type_name().trim_start_matches('.') {
        "" => field.r#type().as_str_name().trim_start_matches("TYPE_").to_lowercase(),
        named => named.to_owned(),
    }
}

/// With a space before it; nothing for a field that is present always.
fn label(field: &FieldDescriptorProto, message: &DescriptorProto) -> String {
    if field.label() == Label::Repeated {
        return " repeated".to_owned();
    }
    if field.proto3_optional() {
        return " optional".to_owned();
    }
    let oneof = field.oneof_index.and_then(|index| usize::try_from(index).ok());
    let oneof = oneof.and_then(|index| message.oneof_decl.get(index));
    oneof.map_or_else(String::new, |oneof| format!(" oneof {}", oneof.name()))
}

fn listing() -> BTreeSet<String> {
    let mut listing = Listing::default();
    files().iter().for_each(|file| listing.file(file));
    listing.failures();
    listing.0
}

#[test]
fn the_contract_is_the_committed_one() {
    let now = listing();
    if std::env::var_os(REWRITE).is_some() {
        let lines: String = now.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(committed(), lines).expect("the listing can be written");
        return;
    }
    let before = std::fs::read_to_string(committed()).expect("the committed listing");
    let before: BTreeSet<String> = before.lines().map(str::to_owned).collect();
    let gone: Vec<&String> = before.difference(&now).collect();
    let new: Vec<&String> = now.difference(&before).collect();
    assert!(
        gone.is_empty() && new.is_empty(),
        "the contract changed.\nremoved or changed: {gone:#?}\nnot yet committed: {new:#?}\n\
         An addition: run this test with {REWRITE}=1 and commit contract.txt. A removal breaks clients and old nodes."
    );
}

#[test]
fn a_renumbered_a_retyped_and_a_relabelled_field_are_seen() {
    let field = FieldDescriptorProto {
        name: Some("offset".to_owned()),
        number: Some(3),
        r#type: Some(Type::Int64.into()),
        proto3_optional: Some(true),
        ..Default::default()
    };
    let lines = |field: FieldDescriptorProto| {
        let message = DescriptorProto {
            name: Some("M".to_owned()),
            field: vec![field],
            ..Default::default()
        };
        let mut listing = Listing::default();
        listing.message("p", &message);
        listing.0
    };
    let good = lines(field.clone());
    assert!(good.contains("p.M.offset = 3 int64 optional"), "{good:?}");
    for changed in [
        FieldDescriptorProto { number: Some(4), ..field.clone() },
        FieldDescriptorProto { r#type: Some(Type::Int32.into()), ..field.clone() },
        FieldDescriptorProto { proto3_optional: None, ..field.clone() },
        FieldDescriptorProto { label: Some(Label::Repeated.into()), ..field },
    ] {
        assert_ne!(lines(changed), good);
    }
}

#[test]
fn every_public_message_keeps_room_for_forks_and_has_no_unsigned_number() {
    for file in files().iter().filter(|file| file.package() == "waymark.v1") {
        for message in &file.message_type {
            let room = |start, end| (start, end) == (500, 1_000);
            let kept = message.reserved_range.iter().any(|r| room(r.start(), r.end()));
            assert!(kept, "{} reserves 500 to 999", message.name());
            for field in &message.field {
                let unsigned = [Type::Uint32, Type::Uint64, Type::Fixed32, Type::Fixed64]
                    .contains(&field.r#type());
                assert!(!unsigned, "{}.{} is signed", message.name(), field.name());
            }
        }
    }
}

#[test]
fn an_enum_value_carries_its_enums_prefix_and_zero_means_unspecified() {
    for file in files().iter().filter(|file| file.package() == "waymark.v1") {
        for each in &file.enum_type {
            let mut prefix = String::new();
            for c in each.name().chars() {
                if c.is_ascii_uppercase() && !prefix.is_empty() {
                    prefix.push('_');
                }
                prefix.push(c.to_ascii_uppercase());
            }
            let zero = each.value.first().expect("an enum has values");
            assert_eq!((zero.number(), zero.name()), (0, format!("{prefix}_UNSPECIFIED").as_str()));
            for value in &each.value {
                assert!(value.name().starts_with(&format!("{prefix}_")), "{}", value.name());
            }
        }
    }
}

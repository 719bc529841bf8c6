//! Reflection: the public services described to tools that have no .proto files. Owns which services are listed; those
//! between nodes are not.

use std::sync::LazyLock;

use tonic::service::Routes;
use tonic_reflection::server::{Builder, Error};

use super::SERVICES;

/// Decoded once in a process: a simulation starts thousands of nodes in one.
static DESCRIBED: LazyLock<Result<Routes, Error>> =
    LazyLock::new(
        || Ok(Routes::new(builder().build_v1()?).add_service(builder().build_v1alpha()?)),
    );

/// Both versions of the reflection service: tools in use speak one or the other.
pub(super) fn routes() -> Result<Routes, &'static Error> {
    DESCRIBED.as_ref().cloned()
}

fn builder() -> Builder<'static> {
    let described = Builder::configure()
        .register_encoded_file_descriptor_set(waymark_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
    let listed = described.with_service_name("grpc.health.v1.Health");
    SERVICES.iter().fold(listed, |builder, service| builder.with_service_name(*service))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_service_is_described() {
        routes().expect("descriptors that fit together");
        let all = String::from_utf8_lossy(waymark_proto::DESCRIPTORS);
        for service in SERVICES {
            let name = service.trim_start_matches("waymark.v1.");
            assert!(all.contains(name), "{service}");
        }
    }
}

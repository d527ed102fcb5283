//! The API's description, from its handlers and types.

use utoipa::OpenApi;

/// The description.
#[derive(OpenApi)]
#[openapi(
    info(title = "uvs", description = "HTTP and JSON on the engine's Unix socket."),
    paths(
        super::services,
        super::connections,
        super::settings,
        super::traffic,
        super::counters,
        super::config,
        super::replace,
        super::watch,
        super::changes,
        super::reload,
    ),
    components(schemas(uvs_uvsadm::api::Conn, super::Mode))
)]
struct Description;

/// The OpenAPI description as JSON.
pub fn openapi() -> String {
    Description::openapi().to_pretty_json().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_and_every_type_is_described() {
        let text: serde_json::Value = serde_json::from_str(&openapi()).unwrap();
        let paths = text["paths"].as_object().unwrap();
        for line in include_str!("../api.rs").lines().filter(|line| line.contains(".route(\"")) {
            let path = line.split('"').nth(1).unwrap();
            assert!(paths.contains_key(path) || path == "/v1/openapi.json", "{path}");
        }
        assert_eq!(paths.len(), 9);
        let schemas = text["components"]["schemas"].as_object().unwrap();
        let all = openapi();
        for reference in all.split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name} is not described");
        }
        let key = &schemas["ServiceKey"]["oneOf"][0]["properties"];
        assert_eq!(key["address"]["type"], "string");
    }
}

//! The body of a request, and what is wrong with it.

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use uvs_uvsadm::api::Refused;

use crate::control::ChangeError;

/// Largest body that is read, in bytes.
pub(crate) const MAX_BODY: usize = 64 << 20;

/// How many bytes of a larger body are taken and forgotten before the answer, so that who sends
/// them reads it.
const MAX_IGNORED: usize = 1 << 30;

/// Why a request is not served: a sentence, or the change that is refused.
#[derive(Debug)]
pub(crate) enum Refusal {
    Told(StatusCode, String),
    Change(Refused),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Told(status, sentence) => (status, sentence).into_response(),
            Self::Change(refused) => (StatusCode::CONFLICT, Json(refused)).into_response(),
        }
    }
}

impl From<ChangeError> for Refusal {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Refused(change, error) => Self::Change(Refused { change, error }),
            ChangeError::Stale { .. } => {
                Self::Told(StatusCode::PRECONDITION_FAILED, error.to_string())
            }
            ChangeError::Steer(error) => Self::Told(StatusCode::CONFLICT, error.to_string()),
        }
    }
}

/// A body of JSON. What is wrong with it is told by its field, line and column.
pub(crate) struct Checked<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Checked<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let bytes = read(request.into_body()).await?;
        parse(&bytes).map(Self)
    }
}

async fn read(mut body: Body) -> Result<Vec<u8>, Refusal> {
    let (mut bytes, mut size) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let told = |error: axum::Error| Refusal::Told(StatusCode::BAD_REQUEST, error.to_string());
        let Ok(data) = frame.map_err(told)?.into_data() else { continue };
        size += data.len();
        if size <= MAX_BODY {
            bytes.extend_from_slice(&data);
        } else if size > MAX_IGNORED {
            break;
        } else {
            bytes = Vec::new();
        }
    }
    if size <= MAX_BODY {
        return Ok(bytes);
    }
    let sentence = format!(
        "the request is larger than {} MB; send the configuration in parts, as changes",
        MAX_BODY >> 20
    );
    Err(Refusal::Told(StatusCode::PAYLOAD_TOO_LARGE, sentence))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let wrong = |field: String, error: &serde_json::Error| {
        let place = if field == "." { String::new() } else { format!("`{field}`: ") };
        Refusal::Told(StatusCode::UNPROCESSABLE_ENTITY, format!("{place}{error}"))
    };
    let value = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| wrong(error.path().to_string(), error.inner()))?;
    json.end().map_err(|error| wrong(".".into(), &error))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_uvsadm::api::{Change, Config};

    fn wrong<T: DeserializeOwned>(json: &str) -> String {
        match parse::<T>(json.as_bytes()) {
            Err(Refusal::Told(StatusCode::UNPROCESSABLE_ENTITY, sentence)) => sentence,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("{json} is taken"),
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_its_field() {
        let service = r#"{"service": {"key": {"fwmark": 1}, "scheduler": 7}}"#;
        let told = wrong::<Config>(&format!("{{\"services\": [{service}]}}"));
        assert!(
            told.starts_with("`services[0].service.scheduler`: invalid type: integer `7`"),
            "{told}"
        );
        let told = wrong::<Config>(r#"{"service": []}"#);
        assert!(told.contains("unknown field `service`, expected one of `version`"), "{told}");
        assert!(wrong::<Config>("{}").contains("missing field `services`"));
        assert!(wrong::<Config>("{\"services\": []} x").contains("trailing characters"));
        let told = wrong::<Vec<Change>>(r#"[{"change": "dance"}]"#);
        assert!(told.contains("unknown variant `dance`, expected one of `add-service`"), "{told}");
        assert!(wrong::<Vec<Change>>("").contains("EOF"));
    }
}

//! Desired configuration, its check, plan and publication; the API.

// Package api holds the topology API's description.
package api

import _ "embed"

// OpenAPI is the topology API in OpenAPI 3.1, the single source of what the server does.
//
//go:embed openapi.yaml
var OpenAPI []byte

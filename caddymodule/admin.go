package caddymodule

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

func init() { caddy.RegisterModule(adminAPI{}) }

// adminAPI serves what the commands need, below /mcp_auth/ of Caddy's admin
// endpoint.
type adminAPI struct{}

// CaddyModule returns the Caddy module information.
func (adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.mcp_auth", New: func() caddy.Module { return new(adminAPI) }}
}

// adminTokenPath answers GET with the generated bearer tokens.
const adminTokenPath = "/mcp_auth/token"

// Routes implements caddy.AdminRouter.
func (adminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: adminTokenPath, Handler: caddy.AdminHandlerFunc(serveGeneratedTokens)},
		{Pattern: adminTokensPath, Handler: caddy.AdminHandlerFunc(serveTokens)},
		{Pattern: adminNamedTokenPath, Handler: caddy.AdminHandlerFunc(serveNamedToken)},
		{Pattern: adminClientsPath, Handler: caddy.AdminHandlerFunc(serveClients)},
		{Pattern: adminGrantsPath, Handler: caddy.AdminHandlerFunc(serveGrants)},
		{Pattern: adminGrantPath, Handler: caddy.AdminHandlerFunc(serveGrant)},
		{Pattern: adminUsersPath, Handler: caddy.AdminHandlerFunc(serveUsers)},
		{Pattern: adminSignOutPath, Handler: caddy.AdminHandlerFunc(serveSignOut)},
		{Pattern: adminStorePath, Handler: caddy.AdminHandlerFunc(serveStoreExport)},
		{Pattern: adminKeysPath, Handler: caddy.AdminHandlerFunc(serveKeys)},
		{Pattern: adminRotatePath, Handler: caddy.AdminHandlerFunc(serveRotate)},
		{Pattern: adminResetPath, Handler: caddy.AdminHandlerFunc(serveResetFactors)},
		{Pattern: adminLivePath, Handler: caddy.AdminHandlerFunc(serveLive)},
		{Pattern: adminReadyPath, Handler: caddy.AdminHandlerFunc(serveReady)},
	}
}

// generatedToken is the bearer token of a site that has none in its
// configuration.
type generatedToken struct {
	Site     string `json:"site"`
	Resource string `json:"resource"`
	Token    string `json:"token"`
}

// runningApp finds the app at the time of the request: the admin endpoint is
// provisioned before the apps, and not rolled back when a reload fails.
func runningApp() (*App, error) {
	app, err := caddy.ActiveContext().AppIfConfigured("mcp_auth")
	if err != nil {
		return nil, caddy.APIError{HTTPStatus: http.StatusNotFound,
			Err: errors.New("the running configuration has no mcp_auth directive")}
	}
	return app.(*App), nil
}

func serveGeneratedTokens(w http.ResponseWriter, r *http.Request) error {
	if err := checkMethod(r, http.MethodGet); err != nil {
		return err
	}
	app, err := runningApp()
	if err != nil {
		return err
	}
	tokens := []generatedToken{}
	for _, h := range app.handlers {
		if s := h.site; s.generated != "" {
			tokens = append(tokens, generatedToken{s.origin, s.resources[0].URL(), s.generated})
		}
	}
	slices.SortFunc(tokens, func(a, b generatedToken) int { return strings.Compare(a.Site, b.Site) })
	return answerJSON(w, http.StatusOK, tokens)
}

// Interface guards
var _ caddy.AdminRouter = (*adminAPI)(nil)

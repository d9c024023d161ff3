// Package grant is the aggregate that everything a user allowed hangs on: one
// record for each consent, which the authorization code and the refresh tokens
// name, and which every step changes by one atomic update.
package grant

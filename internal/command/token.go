package command

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// leeway is how far the clocks of signer and vehicle may be apart.
const leeway = 5 * time.Second

// claims are what a signed command says: the standard names of RFC 7519, and these.
type claims struct {
	jwt.RegisteredClaims
	Command string                     `json:"command"`
	Args    map[string]json.RawMessage `json:"args,omitempty"`
}

// looksSigned tells a JWT in its compact form from other payloads.
func looksSigned(text string) bool {
	return strings.HasPrefix(text, "eyJ") && strings.Count(text, ".") == 2
}

// readSigned reads a signed payload, and nothing else.
func (d *Dispatcher) readSigned(payload []byte, named string) (request, error) {
	text := strings.TrimSpace(string(payload))
	if !looksSigned(text) {
		r, _ := parse(payload, named) // who forgot the key waits for an answer, too
		return request{id: r.id, command: r.command}, refused("not_signed", "it is not signed, and only signed commands are accepted here (telemetryd command --key FILE)")
	}
	r := unverified(text, named) // who signed with the wrong key waits for an answer, too
	now, known := d.Now()
	if !known {
		return r, errUnsynced
	}
	var c claims
	token, err := jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithStrictDecoding(),
		jwt.WithAudience(d.VehicleID), jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
		jwt.WithLeeway(leeway), jwt.WithTimeFunc(func() time.Time { return now }),
	).ParseWithClaims(text, &c, func(*jwt.Token) (any, error) { return d.PublicKey, nil })
	if err != nil {
		return r, invalid(err, d.VehicleID)
	}
	if token.Header["crit"] != nil { // RFC 7515, 4.1.11
		return r, refused("bad_token", "its header says crit, which nothing here understands")
	}
	r = request{id: c.ID, command: c.Command, expires: c.ExpiresAt.Time, until: c.ExpiresAt.Add(leeway)}
	switch {
	case !idPattern.MatchString(r.id):
		r.id = ""
		return r, refused("bad_id", "its jti is missing or not allowed; allowed: 1 to 64 printable characters without spaces")
	case !ValidName(r.command):
		r.command = named
		return r, refused("bad_name", "its claim command is no command's name; allowed: 1 to 64 of A-Z a-z 0-9 _ -")
	case named != "" && r.command != named:
		return r, conflict(named, r.command)
	}
	r.args, err = arguments(c.Args)
	return r, err
}

// unverified is what a token says of itself, for the answer alone.
func unverified(text, named string) request {
	r := request{command: named}
	var c claims
	if _, _, err := jwt.NewParser().ParseUnverified(text, &c); err != nil {
		return r
	}
	if idPattern.MatchString(c.ID) {
		r.id = c.ID
	}
	if named == "" && ValidName(c.Command) {
		r.command = c.Command
	}
	return r
}

// invalid says what is wrong with a token.
func invalid(err error, vehicleID string) error {
	switch {
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return refused("bad_signature", "its signature is not by the key that this vehicle trusts, or not of the kind EdDSA")
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return refused("wrong_audience", "it is for another vehicle: its claim aud does not name %s", vehicleID)
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return refused("bad_token", "a claim is missing: aud, exp and jti have to be there")
	case errors.Is(err, jwt.ErrTokenExpired):
		return refused("expired", "it has expired")
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return refused("not_yet", "it is not valid yet (nbf, iat): is the clock of who signed it right?")
	default:
		return refused("bad_token", "it is no valid signed command: %s", clip(err.Error()))
	}
}

// Request is a command to be sent.
type Request struct {
	ID      string            `json:"id"`
	Command string            `json:"command"`
	Args    map[string]string `json:"args,omitempty"`
	Expires time.Time         `json:"expires,omitzero"`
}

// Sign makes a signed command for one vehicle; it has to expire.
func (q Request) Sign(key ed25519.PrivateKey, vehicleID string, now time.Time) (string, error) {
	args := map[string]json.RawMessage{}
	for name, value := range maps.All(q.Args) {
		b, err := json.Marshal(value)
		if err != nil {
			return "", fmt.Errorf("sign %s: %w", q.Command, err)
		}
		args[name] = b
	}
	c := claims{Command: q.Command, Args: args, RegisteredClaims: jwt.RegisteredClaims{
		ID: q.ID, Audience: jwt.ClaimStrings{vehicleID}, IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(q.Expires)}}
	signed, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, c).SignedString(key)
	if err != nil {
		return "", fmt.Errorf("sign %s: %w", q.Command, err)
	}
	return signed, nil
}

// ReadPublicKey reads the key that signed commands are checked with: Ed25519, PEM, as
// `openssl pkey -pubout` writes it.
func ReadPublicKey(file string) (ed25519.PublicKey, error) {
	block, err := readPEM(file)
	if err != nil {
		return nil, err
	}
	if strings.Contains(block.Type, "PRIVATE") {
		return nil, fmt.Errorf("%s is the private key, which belongs to who signs, not into a vehicle; make the public one of it: openssl pkey -in %s -pubout", file, file)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s is no public key: %w", file, err)
	}
	key, ok := parsed.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%s is no Ed25519 key; make one: openssl genpkey -algorithm ed25519", file)
	}
	return key, nil
}

// ReadPrivateKey reads the key to sign with: Ed25519, PEM, as `openssl genpkey -algorithm
// ed25519` writes it.
func ReadPrivateKey(file string) (ed25519.PrivateKey, error) {
	block, err := readPEM(file)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		if block.Type == "PUBLIC KEY" {
			return nil, fmt.Errorf("%s is the public key, which belongs into the vehicle; signed is with the private one that it was made of", file)
		}
		return nil, fmt.Errorf("%s is no private key: %w; make one: openssl genpkey -algorithm ed25519", file, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s is no Ed25519 key; make one: openssl genpkey -algorithm ed25519", file)
	}
	return key, nil
}

func readPEM(file string) (*pem.Block, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the key for commands: %w", err)
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, fmt.Errorf("%s holds no key in PEM form; make one: openssl genpkey -algorithm ed25519", file)
	}
	return block, nil
}

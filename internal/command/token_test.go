package command

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"
)

// keys are those of the owner, and of somebody else.
var (
	ownersPublic, ownersKey, _ = ed25519.GenerateKey(nil)
	_, strangersKey, _         = ed25519.GenerateKey(nil)
)

type object map[string]any

// token puts a JWT together by hand, so that it can be any.
func token(header, claims object, sign func(signed string) []byte) string {
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	signed := part(header) + "." + part(claims)
	return signed + "." + base64.RawURLEncoding.EncodeToString(sign(signed))
}

func by(key ed25519.PrivateKey) func(string) []byte {
	return func(signed string) []byte { return ed25519.Sign(key, []byte(signed)) }
}

// With a public key only what its owner signed runs, for this vehicle, in its time, and once.
func TestSigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known := true
		r := startIn(t, t.TempDir(), func(c *Config) {
			c.PublicKey = ownersPublic
			c.Now = func() (time.Time, bool) { return time.Now(), known }
		})
		defer r.stop()
		eddsa := object{"alg": "EdDSA", "typ": "JWT"}
		id := 0
		with := func(change object) object {
			id++
			c := object{"aud": "van-1", "jti": fmt.Sprint("t", id), "exp": time.Now().Add(time.Minute).Unix(), "command": "status", "args": object{"n": 1}}
			for name, value := range change {
				if c[name] = value; value == nil {
					delete(c, name)
				}
			}
			return c
		}
		der, err := x509.MarshalPKIXPublicKey(ownersPublic)
		if err != nil {
			t.Fatal(err)
		}
		hs := func(secret []byte) func(string) []byte {
			return func(signed string) []byte {
				m := hmac.New(sha256.New, secret)
				m.Write([]byte(signed))
				return m.Sum(nil)
			}
		}
		nothing := func(string) []byte { return nil }
		good := token(eddsa, with(nil), by(ownersKey))
		parts := strings.Split(good, ".")
		now := time.Now().Unix()
		r.refuses.SetLimit(rate.Inf) // all in one moment, for the sake of the times
		for name, c := range map[string]struct{ payload, want string }{
			"good":                     {good, ""},
			"good, for several":        {token(eddsa, with(object{"aud": []string{"van-2", "van-1"}}), by(ownersKey)), ""},
			"good, newline":            {token(eddsa, with(nil), by(ownersKey)) + "\n", ""},
			"just issued, clock off":   {token(eddsa, with(object{"iat": now + 4, "nbf": now + 4}), by(ownersKey)), ""},
			"just expired, clock off":  {token(eddsa, with(object{"exp": now - 4}), by(ownersKey)), ""},
			"plain name":               {"status", "only signed commands"},
			"JSON":                     {`{"command":"status"}`, "only signed commands"},
			"empty":                    {"", "only signed commands"},
			"forged":                   {token(eddsa, with(nil), by(strangersKey)), "not by the key"},
			"changed":                  {parts[0] + "." + strings.Split(token(eddsa, with(nil), nothing), ".")[1] + "." + parts[2], "not by the key"},
			"no signature":             {token(eddsa, with(nil), nothing), "not by the key"},
			"alg none":                 {token(object{"alg": "none"}, with(nil), nothing), "not by the key"},
			"alg None":                 {token(object{"alg": "None"}, with(nil), nothing), "no valid signed command"},
			"HS256 by the public key":  {token(object{"alg": "HS256"}, with(nil), hs(ownersPublic)), "not by the key"},
			"HS256 by its DER":         {token(object{"alg": "HS256"}, with(nil), hs(der)), "not by the key"},
			"HS256 by its PEM":         {token(object{"alg": "HS256"}, with(nil), hs(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))), "not by the key"},
			"no alg":                   {token(object{"typ": "JWT"}, with(nil), by(ownersKey)), "no valid signed command"},
			"critical header":          {token(object{"alg": "EdDSA", "crit": []string{"b64"}, "b64": false}, with(nil), by(ownersKey)), "crit"},
			"key of its own":           {token(object{"alg": "EdDSA", "jwk": object{"kty": "OKP"}, "kid": "../../dev/null"}, with(nil), by(strangersKey)), "not by the key"},
			"another vehicle":          {token(eddsa, with(object{"aud": "van-2"}), by(ownersKey)), "another vehicle"},
			"longer id":                {token(eddsa, with(object{"aud": "van-11"}), by(ownersKey)), "another vehicle"},
			"no audience":              {token(eddsa, with(object{"aud": nil}), by(ownersKey)), "aud, exp and jti have to be there"},
			"expired":                  {token(eddsa, with(object{"exp": now - 6}), by(ownersKey)), "expired"},
			"no expiry":                {token(eddsa, with(object{"exp": nil}), by(ownersKey)), "aud, exp and jti have to be there"},
			"expiry as text":           {token(eddsa, with(object{"exp": "never"}), by(ownersKey)), "no valid signed command"},
			"far expiry":               {token(eddsa, with(object{"exp": now + 2*86400}), by(ownersKey)), "more than 24h"},
			"huge expiry":              {token(eddsa, with(object{"exp": 1e300}), by(ownersKey)), "expire"},
			"not yet":                  {token(eddsa, with(object{"nbf": now + 10}), by(ownersKey)), "not valid yet"},
			"issued in the future":     {token(eddsa, with(object{"iat": now + 10}), by(ownersKey)), "not valid yet"},
			"no id":                    {token(eddsa, with(object{"jti": nil}), by(ownersKey)), "jti is missing"},
			"no command":               {token(eddsa, with(object{"command": nil}), by(ownersKey)), "no command's name"},
			"a command that is a path": {token(eddsa, with(object{"command": "../status"}), by(ownersKey)), "no command's name"},
			"unlisted":                 {token(eddsa, with(object{"command": "reboot"}), by(ownersKey)), "not among the commands"},
			"arguments in a list":      {token(eddsa, with(object{"args": []int{1}}), by(ownersKey)), "no valid signed command"},
		} {
			said := r.send(c.payload)
			last := said[len(said)-1]
			if c.want == "" && last.State != Done || c.want != "" && (len(said) != 1 || last.State != Refused || !strings.Contains(last.Reason, c.want)) {
				t.Errorf("%s: %+v; want %q", name, said, c.want)
			}
		}
		time.Sleep(time.Minute + leeway - time.Nanosecond)
		if said := r.send(good); short(said) != "refused status" || said[0].Became == nil {
			t.Errorf("replayed at its last moment: %+v", said)
		}
		time.Sleep(time.Nanosecond)
		if said := r.send(good); short(said) != "refused status" || !strings.Contains(said[0].Reason, "expired") {
			t.Errorf("replayed when it has expired: %+v", said)
		}
		r.Receive(r.Base+"/wait", []byte(token(eddsa, with(nil), by(ownersKey))), false)
		if said := r.said(); short(said) != "refused status" || !strings.Contains(said[0].Reason, "the topic says wait") {
			t.Errorf("on another command's topic: %+v", said)
		}
		r.Receive("RakTest/topic", []byte("World!"), false)
		if said := r.said(); short(said) != "refused wait" || !strings.Contains(said[0].Reason, "only signed") {
			t.Errorf("any message: %+v", said)
		}
		known = false
		if said := r.send(token(eddsa, with(nil), by(ownersKey))); short(said) != "refused status" || !strings.Contains(said[0].Reason, "does not know the time") {
			t.Errorf("unsynced: %+v", said)
		}
	})
}

// The keys that openssl makes are read, and each mistake with them is told.
func TestKeys(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	for _, args := range [][]string{
		{"genpkey", "-algorithm", "ed25519", "-out", file("key")},
		{"pkey", "-in", file("key"), "-pubout", "-out", file("pub")},
		{"genpkey", "-algorithm", "ed448", "-out", file("key448")},
		{"pkey", "-in", file("key448"), "-pubout", "-out", file("pub448")},
		{"ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", file("ec")},
		{"pkey", "-in", file("ec"), "-pubout", "-out", file("ecpub")},
	} {
		if b, err := exec.Command("openssl", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, b)
		}
	}
	if err := os.WriteFile(file("text"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	public, err := ReadPublicKey(file("pub"))
	if err != nil {
		t.Fatal(err)
	}
	private, err := ReadPrivateKey(file("key"))
	if err != nil {
		t.Fatal(err)
	}
	if !public.Equal(private.Public()) {
		t.Error("the keys do not belong together")
	}
	for name, want := range map[string]string{"key": "is the private key", "ecpub": "is no Ed25519 key", "pub448": "is no public key", "text": "holds no key in PEM form", "none": "no such file"} {
		if _, err := ReadPublicKey(file(name)); !strings.Contains(errorText(err), want) {
			t.Errorf("public key %s: %v", name, err)
		}
	}
	for name, want := range map[string]string{"pub": "is the public key", "ec": "is no private key", "text": "holds no key in PEM form", "none": "no such file"} {
		if _, err := ReadPrivateKey(file(name)); !strings.Contains(errorText(err), want) {
			t.Errorf("private key %s: %v", name, err)
		}
	}
}

// Who forgot to sign hears of it: the answer has the id that is waited for.
func TestUnsignedIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startIn(t, t.TempDir(), func(c *Config) { c.PublicKey = ownersPublic })
		defer r.stop()
		for payload, want := range map[string]Response{
			`{"id":"7","command":"status","args":{"hz":10}}`: {ID: "7", Command: "status"},
			"status":                          {Command: "status"},
			`{"id":"a b","command":"status"}`: {},
			`{"id":`:                          {},
		} {
			got := r.send(payload)
			if len(got) != 1 || got[0].ID != want.ID || got[0].Command != want.Command || got[0].State != Refused || !strings.Contains(got[0].Reason, "not signed") {
				t.Errorf("%s: %+v", payload, got)
			}
		}
	})
}

// What Sign makes runs.
func TestSign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startIn(t, t.TempDir(), func(c *Config) { c.PublicKey = ownersPublic })
		defer r.stop()
		q := Request{ID: "x", Command: "status", Args: map[string]string{"hz": "10"}, Expires: time.Now().Add(time.Minute)}
		text, err := q.Sign(ownersKey, "van-1", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		said := r.send(text)
		if short(said) != "accepted status, done status" || said[1].ID != "x" || fmt.Sprint(said[1].Output) != "map[args:map[hz:10]]" {
			t.Errorf("%+v", said)
		}
	})
}

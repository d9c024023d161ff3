package pages

import (
	"fmt"
	"image/color"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/boombuler/barcode/qr"
)

// What is drawn is the code with its border, square by square.
func TestTheDrawingOfAQRCode(t *testing.T) {
	const text = "otpauth://totp/Example:alice?secret=JBSWY3DPEHPK3PXP"
	drawn, err := newQRCode(text)
	if err != nil {
		t.Fatal(err)
	}
	dark := map[[2]int]bool{}
	for _, m := range regexp.MustCompile(`M(\d+) (\d+)h(\d+)v1h-(\d+)z`).FindAllStringSubmatch(drawn.Path, -1) {
		var x, y, run, back int
		if _, err := fmt.Sscan(strings.Join(m[1:], " "), &x, &y, &run, &back); err != nil || run != back {
			t.Fatalf("%q: %v", m[0], err)
		}
		for i := range run {
			dark[[2]int{x + i, y}] = true
		}
	}
	want, err := qr.Encode(text, qr.M, qr.Auto)
	if err != nil {
		t.Fatal(err)
	}
	if n := want.Bounds().Dx() + 8; drawn.Size != n {
		t.Fatalf("the size is %d, want %d", drawn.Size, n)
	}
	for y := range drawn.Size {
		for x := range drawn.Size {
			inside := x >= 4 && y >= 4 && x < drawn.Size-4 && y < drawn.Size-4
			if is := inside && want.At(x-4, y-4) == color.Black; dark[[2]int{x, y}] != is {
				t.Fatalf("the square at %d, %d is dark: %t", x, y, !is)
			}
		}
	}
}

func TestTheKeyIsThereForPeopleWhoCannotScan(t *testing.T) {
	r := newRenderer(t)
	const uri = "otpauth://totp/Cisco:alice?secret=JBSWY3DPEHPK3PXPJB"
	_, doc := render(t, "en", func(w http.ResponseWriter, req *http.Request) error {
		return r.Enrol(w, req, 200, Enrol{URI: uri, Secret: "JBSWY3DPEHPK3PXPJB", Back: "/account", Token: token})
	})
	var texts []string
	for _, n := range doc.all(".url") {
		texts = append(texts, n.text())
	}
	if len(texts) != 2 || texts[0] != "JBSW Y3DP EHPK 3PXP JB" || texts[1] != uri || doc.one(t, "details").one(t, "a").attr("href") != uri {
		t.Errorf("the page shows %q", texts)
	}
	if input := doc.one(t, "#code"); input.has("autofocus") {
		t.Error("the field at the end has the focus, so the code may be out of sight")
	}
	if _, err := newQRCode(strings.Repeat("ü", 3000)); err == nil {
		t.Error("what is too long for a QR code is drawn")
	}
}

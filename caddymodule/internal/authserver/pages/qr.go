package pages

import (
	"fmt"
	"image/color"
	"strings"

	"github.com/boombuler/barcode/qr"
)

// quiet is the width of the empty border around a QR code, in squares (ISO 18004
// section 6.3.8).
const quiet = 4

// qrCode is a QR code as a drawing: one path, so that the pages need no images.
type qrCode struct {
	Size int    // width and height in squares, with the border
	Path string // the dark squares, each row in runs
}

func newQRCode(text string) (qrCode, error) {
	code, err := qr.Encode(text, qr.M, qr.Auto)
	if err != nil {
		return qrCode{}, fmt.Errorf("drawing a QR code: %w", err)
	}
	n := code.Bounds().Dx()
	var path strings.Builder
	for y := range n {
		for x := 0; x < n; {
			run := 0
			for x+run < n && code.At(x+run, y) == color.Black {
				run++
			}
			if run > 0 {
				fmt.Fprintf(&path, "M%d %dh%dv1h-%dz", x+quiet, y+quiet, run, run)
			}
			x += run + 1
		}
	}
	return qrCode{Size: n + 2*quiet, Path: path.String()}, nil
}

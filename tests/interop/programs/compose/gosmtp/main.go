// Sends the bytes of MAIL_RAW from MAIL_FROM to every address of MAIL_RCPT with net/smtp.
package main

import (
	"fmt"
	"net/smtp"
	"os"
	"strings"
)

func main() {
	host := os.Getenv("SMTP_HOST")
	content, err := os.ReadFile(os.Getenv("MAIL_RAW"))
	if err == nil {
		auth := smtp.PlainAuth("", os.Getenv("SMTP_USERNAME"), os.Getenv("SMTP_PASSWORD"), host)
		recipients := strings.Split(os.Getenv("MAIL_RCPT"), ",")
		err = smtp.SendMail(host+":"+os.Getenv("SMTP_PORT"), auth, os.Getenv("MAIL_FROM"), recipients, content)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

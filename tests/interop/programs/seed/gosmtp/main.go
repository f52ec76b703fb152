// SendPost's documented Go sample, the same library calls: a message without a single header field.
// What differs comes from the environment: SMTP_HOST, SMTP_PORT, SMTP_USERNAME, SMTP_PASSWORD, SSL_CERT_FILE.
package main

import (
	"fmt"
	"net/smtp"
	"os"
)

func main() {
	host := os.Getenv("SMTP_HOST")
	from := "erlich@piedpiper.com"
	toList := []string{"gilfoyle@piedpiper.com"}
	body := []byte("Hello geeks!!!")

	auth := smtp.PlainAuth("", os.Getenv("SMTP_USERNAME"), os.Getenv("SMTP_PASSWORD"), host)
	err := smtp.SendMail(host+":"+os.Getenv("SMTP_PORT"), auth, from, toList, body)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("sent")
}

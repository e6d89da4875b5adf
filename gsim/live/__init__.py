"""What servers in real time share: a clock driven by real time, bodies of the OpenAI API, token ids, contents."""

void __lind_hold_streams(void);
void __lind_give_streams(void);
void __lind_hold_streams(void) {}
void __lind_give_streams(void) {}
